"""From compute to the score on a benchmark in two steps (Llama 3, arXiv 2407.21783, section 3.2.1).

    1. NLL(C) = k C^-p          nats (a character, say) of the benchmark's right answers: a line in logarithms
    2. accuracy(NLL) = chance + (top - chance) / (1 + exp(steepness (NLL - middle)))

Accuracy alone says nothing about small models, which guess; their likelihood of the right answer already moves. Step 1 is
fitted to one's own compute-optimal runs; step 2 may use other, larger models too, which need no compute figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arriero.cost.scaling.law import Floats
from arriero.cost.scaling.minimise import Numbers, minimise
from arriero.errors import ArrieroError

FEWEST = 3
_STEEPNESS = (0.5, 2.0, 8.0, 30.0)
"""Starts, over the spread of the NLLs."""


@dataclass(frozen=True)
class TokenRule:
    """D* = factor C^exponent: tokens of the compute-optimal model, a line through the bottoms of IsoFLOP curves."""

    factor: float
    exponent: float
    source: str = ""

    def tokens(self, flops: float) -> float:
        """D* of a budget."""
        return float(self.factor * flops**self.exponent)

    def parameters(self, flops: float) -> float:
        """N* = C / 6 D*."""
        return flops / 6 / self.tokens(flops)


LLAMA3_FLOPS, LLAMA3_TOKENS = 3.8e25, 16.55e12
"""The paper's own point: 402 B parameters on 16.55 T tokens."""
LLAMA3_ROUNDED = TokenRule(
    0.29,
    0.53,
    "Llama 3 as printed: rounded to two digits it gives 10.5 T tokens for 3.8e25 FLOP, not the paper's 16.55 T",
)
LLAMA3 = TokenRule(
    0.29, math.log(LLAMA3_TOKENS / 0.29) / math.log(LLAMA3_FLOPS),
    "Llama 3, with the exponent (0.5377) that meets the paper's own point of 16.55 T tokens for 3.8e25 FLOP",
)  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """A fitted two-step law of one benchmark.

    Attributes:
        factor, power: NLL = factor C^-power.
        chance, top: accuracy of guessing, and of a perfect model. steepness, middle: of the sigmoid in NLL.
    """

    factor: float
    power: float
    chance: float
    top: float
    steepness: float
    middle: float

    def nll(self, flops: float | Floats) -> Floats:
        """Of a compute-optimal model of that many FLOP."""
        return np.asarray(self.factor * np.asarray(flops, dtype=float) ** -self.power)

    def accuracy_at(self, nll: float | Floats) -> Floats:
        """Of a model with that NLL."""
        return _sigmoid(np.asarray(nll, dtype=float), self.chance, self.top, self.steepness, self.middle)

    def accuracy(self, flops: float | Floats) -> Floats:
        """Both steps."""
        return self.accuracy_at(self.nll(flops))


def _sigmoid(nll: Floats, chance: float, top: float, steepness: float, middle: float) -> Floats:
    return np.asarray(chance + (top - chance) * 0.5 * (1 - np.tanh(steepness * (nll - middle) / 2)))


def fit_benchmark(
    ladder: Sequence[tuple[float, float]],
    scored: Sequence[tuple[float, float]],
    *,
    chance: float = 0.0,
    top: float = 1.0,
) -> Benchmark:
    """Both steps.

    Args:
        ladder: (FLOP, NLL) of compute-optimal runs. scored: (NLL, accuracy) of these and of any other models.
        chance: accuracy of guessing, 0.25 for four choices. top: of a perfect model.

    Raises:
        ArrieroError: fewer than three of either, figures out of range, or an NLL that does not fall with compute.
    """
    if not 0 <= chance < top <= 1:
        raise ArrieroError(f"0 <= chance < top <= 1 should hold, not chance {chance:g} and top {top:g}")
    for name, rows in (("compute and NLL", ladder), ("NLL and accuracy", scored)):
        if len({row[0] for row in rows}) < FEWEST:
            raise ArrieroError(
                f"{len(rows)} models with {name}: each step needs at least {FEWEST} different ones"
            )
        if any(not (row[0] > 0 and math.isfinite(row[0]) and math.isfinite(row[1])) for row in rows):
            raise ArrieroError(f"{name} should be numbers, the first above 0")
    factor, power = _line(ladder)
    nll, accuracy = (np.asarray(column, dtype=float) for column in zip(*scored, strict=True))
    steepness, middle = _fit_sigmoid(nll, accuracy, chance, top)
    return Benchmark(factor, power, chance, top, steepness, middle)


def _line(ladder: Sequence[tuple[float, float]]) -> tuple[float, float]:
    flops, nll = (np.asarray(column, dtype=float) for column in zip(*ladder, strict=True))
    if (nll <= 0).any():
        raise ArrieroError(f"an NLL should be above 0, not {nll.min():g}")
    slope, intercept = np.polyfit(np.log(flops), np.log(nll), 1)
    if slope >= 0:
        raise ArrieroError(
            "the NLL does not fall with compute in these runs, so there is no power law to follow"
        )
    return float(np.exp(intercept)), float(-slope)


def _fit_sigmoid(nll: Floats, accuracy: Floats, chance: float, top: float) -> tuple[float, float]:
    """(steepness, middle) of least squares in the accuracy."""
    if accuracy.min() < 0 or accuracy.max() > 1:
        raise ArrieroError(f"an accuracy lies between 0 and 1, not {accuracy.min():g} to {accuracy.max():g}")
    spread, centre = float(nll.std()), float(nll.mean())

    def objective(x: Floats, _: Numbers) -> tuple[Floats, Floats]:
        z = np.exp(x[:, :1]) * ((nll - centre) / spread - x[:, 1:])
        share = 0.5 * (1 - np.tanh(z / 2))
        off = chance + (top - chance) * share - accuracy
        by_z = -2 * off * (top - chance) * share * (1 - share)
        slopes = np.stack([(by_z * z).sum(1), (by_z * -np.exp(x[:, :1])).sum(1)], axis=1)
        return (off**2).sum(axis=1), slopes

    places = (np.quantile(nll, q) for q in (0.0, 0.25, 0.5, 0.75, 1.0))
    starts = [[math.log(steep), (place - centre) / spread] for place in places for steep in _STEEPNESS]
    x, value = minimise(objective, np.asarray(starts))
    log_steep, place = x[int(np.argmin(value))]
    return float(np.exp(log_steep)) / spread, centre + spread * float(place)


@dataclass(frozen=True)
class Score:
    """A predicted accuracy with its bootstrap interval."""

    flops: float
    nll: float
    accuracy: float
    low: float
    high: float
    decades: float
    notes: tuple[str, ...]


def predict_score(
    ladder: Sequence[tuple[float, float]], scored: Sequence[tuple[float, float]], flops: float, *,
    chance: float = 0.0, top: float = 1.0, draws: int = 200, seed: int = 0, confidence: float = 0.8, far: bool = False,
) -> Score:  # fmt: skip
    """The accuracy of a compute-optimal model of ``flops``, with the interval of the fit when its models are drawn anew.

    Raises:
        ArrieroError: as :func:`fit_benchmark`; or more than two decades beyond the ladder, unless ``far``.
    """
    from arriero.cost.scaling.bootstrap import FURTHEST

    law = fit_benchmark(ladder, scored, chance=chance, top=top)
    beyond = max(0.0, math.log10(flops / max(row[0] for row in ladder)))
    if beyond > FURTHEST and not far:
        raise ArrieroError(
            f"{flops:.3g} FLOP lie {beyond:.1f} decades beyond the largest run of the ladder; a law is only followed "
            f"{FURTHEST:g} unless you say so (far)"
        )
    found = _drawn_scores(ladder, scored, flops, (chance, top), draws, seed)
    value = float(law.accuracy(flops))
    ends = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(found) else (value, value)
    notes = []
    if beyond > FURTHEST:
        notes.append(
            f"{beyond:.1f} decades beyond the ladder: the interval does not know whether the law holds there"
        )
    if law.nll(flops) < min(row[0] for row in scored):
        notes.append("the predicted NLL is below that of any scored model: the sigmoid is extrapolated too")
    return Score(
        flops, float(law.nll(flops)), value, min(value, float(ends[0])), max(value, float(ends[1])), beyond, tuple(notes)
    )  # fmt: skip


def _drawn_scores(
    ladder: Sequence[tuple[float, float]], scored: Sequence[tuple[float, float]], flops: float,
    ends: tuple[float, float], draws: int, seed: int,
) -> Floats:  # fmt: skip
    """Accuracies under laws of models drawn with replacement; draws that can tell no law are left out."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        first = [ladder[i] for i in random.integers(len(ladder), size=len(ladder))]
        second = [scored[i] for i in random.integers(len(scored), size=len(scored))]
        try:
            law = fit_benchmark(first, second, chance=ends[0], top=ends[1])
        except ArrieroError:
            continue
        found.append(float(law.accuracy(flops)))
    return np.asarray(found)
