"""The answers of ``arriero scaling``: how large a model, on how many tokens, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from arriero.cost.quantity import Quantity
from arriero.cost.scaling import kaplan
from arriero.cost.scaling.bootstrap import Bands, Prediction, bootstrap, predict
from arriero.cost.scaling.downstream import LLAMA3, Benchmark, Score, fit_benchmark, predict_score
from arriero.cost.scaling.fit import DELTA, Fit, fit_law
from arriero.cost.scaling.inference_aware import Overtraining, overtrain
from arriero.cost.scaling.law import CHINCHILLA, LAWS, Allocation, ParametricLaw
from arriero.cost.scaling.runs import figure, read_rows, read_runs
from arriero.errors import ArrieroError, did_you_mean
from arriero.planning.scaling.budget import Budget

_LARGEST = 5.76e23
"""FLOP of Gopher's and Chinchilla's budget, the largest that the published fits were held against."""


@dataclass(frozen=True)
class Choice:
    """A compute-optimal model under one law."""

    law: str
    source: str
    parameters: float
    tokens: float
    loss: float | None


@dataclass(frozen=True)
class Optimum:
    """The best model of a budget, with what its band makes of it, and what other laws would say."""

    budget: Budget
    best: Choice
    low: Choice
    high: Choice
    others: tuple[Choice, ...]
    notes: tuple[str, ...]


def law_of(name: str) -> ParametricLaw:
    """A published law by name, or one's own from a law.json (or the folder of a ``ladder`` artifact).

    Raises:
        ArrieroError: there is no such law, or the file holds none.
    """
    if name in LAWS:
        return LAWS[name]
    path = Path(name)
    path = path / "law.json" if path.is_dir() else path
    if not path.is_file():
        raise ArrieroError(f"no law '{name}'{did_you_mean(name, LAWS)} (or give a law.json)")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        figures = {key: float(data[key]) for key in ("E", "A", "B", "alpha", "beta")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArrieroError(f"{path}: no scaling law with E, A, B, alpha and beta: {error}") from None
    return ParametricLaw(**figures, name=str(path), source="own fit")


def optimum(budget: Budget, law: ParametricLaw = CHINCHILLA) -> Optimum:
    """The compute-optimal model of a budget."""
    flops = budget.flops
    assert flops.value is not None and flops.low is not None and flops.high is not None
    best, low, high = (
        _choice(law.name, law.source, law.optimal(c)) for c in (flops.value, flops.low, flops.high)
    )
    others = [
        _choice(one.name, one.source, one.optimal(flops.value))
        for one in LAWS.values()
        if one.name != law.name
    ]
    old = kaplan.optimal(flops.value)
    others += [
        Choice("kaplan", "Kaplan et al. 2020: history; far too large a model on too little data", old.parameters, old.tokens, None),
        Choice("llama-3", LLAMA3.source, LLAMA3.parameters(flops.value), LLAMA3.tokens(flops.value), None),
    ]  # fmt: skip
    return Optimum(budget, best, low, high, tuple(others), _optimum_notes(law, flops))


def _optimum_notes(law: ParametricLaw, flops: Quantity) -> tuple[str, ...]:
    notes = ["losses are of each law's own text and tokenizer: compare sizes between laws, not losses"]
    if law.name in LAWS and flops.value is not None and not 6e18 <= flops.value <= 100 * _LARGEST:
        notes.append(
            "far from the budgets that the law was fitted on (6e18 to 3e21 FLOP, checked at 5.76e23)"
        )
    notes.append(
        "if the model will answer many tokens, a smaller one trained for longer is cheaper: arriero scaling overtrain"
    )
    return tuple(notes)


def _choice(name: str, source: str, found: Allocation) -> Choice:
    return Choice(name, source, found.parameters, found.tokens, found.loss)


@dataclass(frozen=True)
class FitAnswer:
    """A law fitted to a table of runs."""

    fit: Fit
    bands: Bands
    confidence: float
    intervals: dict[str, tuple[float, float]]
    predictions: tuple[Prediction, ...]
    optimum: Allocation | None
    notes: tuple[str, ...] = field(default=())


def fit_runs(
    path: Path, *, models: Sequence[tuple[float, float]] = (), flops: float | None = None, confidence: float = 0.8,
    draws: int = 1000, seed: int = 0, delta: float = DELTA, far: bool = False,
) -> FitAnswer:  # fmt: skip
    """Fit the runs of a CSV file and predict: each of ``models`` (parameters, tokens), and the best use of ``flops``.

    Raises:
        ArrieroError: the runs cannot be read or tell no law, or a prediction would go more than two decades too far.
    """
    if not 0 < confidence < 1:
        raise ArrieroError(f"a confidence lies between 0 and 1, not {confidence:g}")
    found = fit_law(read_runs(path), delta=delta)
    bands = bootstrap(found, draws=draws, seed=seed)
    best = found.law.optimal(flops) if flops is not None else None
    wanted = [*models, *([(best.parameters, best.tokens)] if best else [])]
    made = tuple(predict(bands, n, d, confidence=confidence, far=far) for n, d in wanted)
    return FitAnswer(
        found, bands, confidence, bands.parameters(confidence), made, best, _fit_notes(found, bands)
    )


def _fit_notes(found: Fit, bands: Bands) -> tuple[str, ...]:
    notes = [
        f"{len(found.runs)} runs; intervals from {len(bands.scatter):,} bootstrap draws of the {bands.method}"
    ]
    if found.scatter > 0.02:
        notes.append(
            f"the runs scatter by {found.scatter:.1%} about the law: look for runs whose learning rate was not taken to its "
            "end or does not suit their size"
        )
    return tuple(notes)


def overtraining(
    law: ParametricLaw, inference_tokens: float, *, parameters: float | None = None, flops: float | None = None,
    loss: float | None = None, weight: float = 1.0,
) -> Overtraining:  # fmt: skip
    """The cheapest model over its life, as good as the compute-optimal one of a size, of a budget or of a loss.

    Raises:
        ArrieroError: not exactly one of the three is given, or it makes no sense.
    """
    if sum(given is not None for given in (parameters, flops, loss)) != 1:
        raise ArrieroError("say how good the model must be by one of --parameters, --budget-flops and --loss")
    if parameters is not None:
        if not parameters > 0:
            raise ArrieroError(f"parameters are above 0, not {parameters:g}")
        reference = law.allocation(parameters, law.optimal_tokens(parameters))
    elif flops is not None:
        reference = law.optimal(flops)
    else:
        reference = law.reach(float(loss or 0.0))
    return overtrain(law, reference, inference_tokens, weight)


@dataclass(frozen=True)
class BenchmarkAnswer:
    """A two-step law of one benchmark, and the score it foresees."""

    law: Benchmark
    ladder: int
    scored: int
    score: Score | None


def fit_scores(
    path: Path, *, flops: float | None, chance: float, top: float, confidence: float = 0.8, draws: int = 200,
    seed: int = 0, far: bool = False,
) -> BenchmarkAnswer:  # fmt: skip
    """From a CSV file with columns for FLOP, NLL and accuracy; a row without FLOP serves the second step alone.

    Raises:
        ArrieroError: the file cannot be read, or its rows tell no law.
    """
    rows = read_rows(path)
    ladder, scored = [], []
    for line, row in enumerate(rows, start=2):
        nll = figure(row, "loss", path, line)
        if row.get("flops"):
            ladder.append((figure(row, "flops", path, line), nll))
        if row.get("accuracy"):
            scored.append((nll, _accuracy(row["accuracy"], path, line)))
    if not ladder or not scored:
        raise ArrieroError(
            f"{path}: wanted are columns flops, nll and accuracy; there are {', '.join(rows[0])}"
        )
    law = fit_benchmark(ladder, scored, chance=chance, top=top)
    score = None
    if flops is not None:
        score = predict_score(
            ladder,
            scored,
            flops,
            chance=chance,
            top=top,
            confidence=confidence,
            draws=draws,
            seed=seed,
            far=far,
        )
    return BenchmarkAnswer(law, len(ladder), len(scored), score)


def _accuracy(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArrieroError(f"{path}:{line}: accuracy should be a number from 0 to 1, not '{text}'") from None


def as_data(answer: Optimum | FitAnswer | Overtraining | BenchmarkAnswer) -> dict[str, Any]:
    """The answer for programs."""
    if isinstance(answer, Optimum):
        found = asdict(answer)
        found["budget"] = {
            "flops": answer.budget.flops.model_dump(mode="json"),
            "rests_on": list(answer.budget.lines),
        }
        return found
    if isinstance(answer, FitAnswer):
        fit = answer.fit
        return {
            "law": asdict(fit.law), "intervals": answer.intervals, "confidence": answer.confidence,
            "scatter": fit.scatter, "runs": len(fit.runs), "residuals": dict(zip(fit.runs.names, fit.residuals.tolist(), strict=True)),
            "predictions": [asdict(made) for made in answer.predictions],
            "optimum": asdict(answer.optimum) if answer.optimum else None, "notes": list(answer.notes),
        }  # fmt: skip
    if isinstance(answer, Overtraining):
        return {**asdict(answer), "ratio": answer.ratio, "factor": answer.factor}
    return asdict(answer)
