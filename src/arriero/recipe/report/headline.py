"""The answer first: what was made, how good it is, what it cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from arriero.cost import Quantity
from arriero.cost.units import UNKNOWN, format_bytes, format_count, format_quantity
from arriero.evaluation.scores import Measure, Score, plain
from arriero.recipe.report.comparison import read_comparison
from arriero.recipe.report.data import ReportData, StageLine
from arriero.recipe.report.evaluation import read_scores
from arriero.recipe.report.totals import Totals


@dataclass(frozen=True)
class Answer:
    """One of the header's three answers: a large line and smaller ones below it."""

    question: str
    figure: str
    lines: list[str] = field(default_factory=list)


def headline(data: ReportData, sums: Totals) -> list[Answer]:
    """What was made, how good it is (where something was evaluated or compared), what it cost."""
    return [_made(data, sums), *_good(data), *_found(data), _cost(sums)]


def final_model(data: ReportData) -> StageLine | None:
    """The last model that is there."""
    return next((s for s in reversed(data.stages) if s.makes == "model" and s.state == "done"), None)


def _made(data: ReportData, sums: Totals) -> Answer:
    state = f"{sums.done} of {sums.stages} stages are there"
    if sums.reused:
        state += f", {sums.reused} reused from an earlier run"
    model = final_model(data)
    if model is None:
        last = next((s for s in reversed(data.stages) if s.state == "done"), None)
        return Answer("What was made", last.made if last else "nothing yet", [state])
    figure = (
        f"{format_count(model.spec['n_parameters'])} parameters"
        if "n_parameters" in model.spec
        else model.made
    )
    lines = []
    if "format" in model.spec:
        lines.append(
            f"{model.name}: {model.spec['format']}, {format_bytes(model.spec.get('weight_bytes'))} of weights"
        )
    smaller = min(
        (s for s in data.stages if s.makes == "model" and s.state == "done" and s.spec.get("weight_bytes")),
        key=lambda s: s.spec["weight_bytes"],
        default=model,
    )
    if smaller.name != model.name and smaller.spec["weight_bytes"] < model.spec.get("weight_bytes", 0):
        lines.append(f"smallest: {smaller.name}, {format_bytes(smaller.spec['weight_bytes'])}")
    return Answer("What was made", figure, [*lines, state])


def _good(data: ReportData) -> list[Answer]:
    if not data.evaluations:
        return []
    scores = read_scores(data.evaluations[-1])
    own = [line.name for line in scores.models if line.kind != "reference"]
    name = _evaluated(data, own)
    if name is None or not scores.measures:
        return []
    first = scores.measures[0]
    score = _of(first, name)
    if score is None:
        return []
    beside = [line.name for line in scores.models if line.kind == "reference"]
    best = _best(first, own)
    if best is not None and best != name:
        beside.insert(0, best)  # tuning to answer costs plain text: say which model reads that best
    lines = [", ".join(_reference(first, model) for model in beside)]
    lines += [
        f"{m.title} {_text(found, m.unit)}"
        for m in scores.measures[1:3]
        if (found := _of(m, name)) is not None
    ]
    return [
        Answer(
            f"How good · {name}", f"{plain(score.value, first.unit)} {first.unit}", [x for x in lines if x]
        )
    ]


def _found(data: ReportData) -> list[Answer]:
    """The best family of the last comparison, and whether the runner-up could be told from it."""
    if not data.comparisons:
        return []
    found = read_comparison(data.comparisons[-1])
    best, *others = sorted(found.families, key=lambda family: family.equal_time.value)
    lines = [f"then {other.name} {other.equal_time.value:.3f}" for other in others[:1]]
    mixed = [family for family in found.families if family.mixture is not None]
    if mixed:
        top = min(mixed, key=lambda family: family.mixture.value if family.mixture else 0.0)
        value = f"{top.mixture.value:.3f}" if top.mixture else ""
        lines.append(f"{top.name} mixed with {found.ngram} {value}")
    return [Answer(f"Best at equal time · {best.name}", f"{best.equal_time.value:.3f} bits/byte", lines)]


def _evaluated(data: ReportData, own: list[str]) -> str | None:
    """The evaluated model that stands for the final one: itself, or the nearest that it was made from."""
    stage = final_model(data)
    seen: set[str] = set()
    while stage is not None and stage.name not in own and stage.name not in seen:
        seen.add(stage.name)
        parents = [
            found
            for name in stage.inputs
            if (found := data.stage(name)) is not None and found.makes == "model"
        ]
        stage = parents[0] if parents else None
    if stage is not None and stage.name in own:
        return stage.name
    return own[-1] if own else None


def _best(measure: Measure, own: list[str]) -> str | None:
    """The best of the run's own models on a measure."""
    scores = [score for score in measure.scores if score.model in own]
    if not scores:
        return None
    pick = min if measure.better == "lower" else max
    return pick(scores, key=lambda score: score.value).model


def _of(measure: Measure, model: str) -> Score | None:
    return next((score for score in measure.scores if score.model == model), None)


def _reference(measure: Measure, model: str) -> str:
    score = _of(measure, model)
    return f"{model} {plain(score.value, measure.unit)}" if score else ""


def _text(score: Score, unit: str) -> str:
    if score.low is None or score.high is None:
        return plain(score.value, unit)
    return f"{plain(score.value, unit)} ({plain(score.low, unit).removesuffix(' %')}–{plain(score.high, unit).removesuffix(' %')})"


def _cost(sums: Totals) -> Answer:
    if sums.measured is None:
        return Answer("What it cost", UNKNOWN, ["nothing has run yet"])
    found = sums.measured
    co2 = [f"{_short(found.co2)} CO₂"] if found.co2.known else []
    lines = [" · ".join([_short(found.energy), *co2, _short(found.money)])]
    if sums.predicted is not None and sums.compared is not None and sums.factor is not None:
        some = "" if sums.compared_stages == sums.stages else f" for {sums.compared_stages} stages"
        lines.append(f"planned {format_quantity(sums.predicted.seconds)}{some}: took × {sums.factor:.2f}")
    lines.append(f"at most {_short(found.peak_memory)} of memory")
    return Answer("What it cost", _short(found.seconds), lines)


def _short(quantity: Quantity) -> str:
    return format_quantity(quantity, band=False)
