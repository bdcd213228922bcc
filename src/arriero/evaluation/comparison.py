"""From per-item figures of all models to scores with intervals, paired differences and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from arriero.evaluation.answers import Floats
from arriero.evaluation.bootstrap import Resampling, ratio_difference_interval, ratio_interval
from arriero.evaluation.scores import Difference, Measure, ModelLine, Relation, Score, judge, verdict

Columns = tuple[Floats, Floats]
"""(numerators, denominators) of every item [n]; the figure is the ratio of their sums."""


@dataclass(frozen=True)
class MeasureKind:
    """What a measure is called and which way is better."""

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    items: str


BITS_PER_BYTE = MeasureKind("bits_per_byte", "bits per byte", "bits/byte", "lower", "documents")
ANSWER_LOSS = MeasureKind("answer_loss", "answer loss", "nats/token", "lower", "conversations")
PREFERENCE = MeasureKind("preference_accuracy", "preference accuracy", "share", "higher", "pairs")
PREFERENCE_MEAN = MeasureKind(
    "preference_accuracy_per_token", "preference accuracy per token", "share", "higher", "pairs"
)


@dataclass
class Table:
    """One measure's columns, by model."""

    kind: MeasureKind
    of: int
    columns: dict[str, Columns] = field(default_factory=dict)


def compare(table: Table, models: list[ModelLine], baseline: str, how: Resampling) -> Measure:
    """Scores and differences of one measure, for the models that it has columns of, in the order of ``models``."""
    lines = [line for line in models if line.name in table.columns]
    kind = table.kind
    scores = [Score.of(line.name, ratio_interval(*table.columns[line.name], how)) for line in lines]
    differences = [
        _difference(table, line.name, to, relation, how)
        for line in lines
        for to, relation in _comparisons(line, lines, baseline)
    ]
    return Measure(
        name=kind.name, title=kind.title, unit=kind.unit, better=kind.better, items=kind.items,
        n=scores[0].n, of=table.of, scores=scores, differences=differences,
    )  # fmt: skip


def _comparisons(line: ModelLine, lines: list[ModelLine], baseline: str) -> list[tuple[str, Relation]]:
    """What a model is set beside, each once: its parent, the baseline, the references."""
    if line.kind == "reference":
        return []
    names = {other.name for other in lines}
    found: dict[str, Relation] = {}
    if line.parent in names and line.parent is not None:
        found[line.parent] = "parent"
    if baseline in names and baseline != line.name:
        found.setdefault(baseline, "baseline")
    for other in lines:
        if other.kind == "reference":
            found.setdefault(other.name, "reference")
    return list(found.items())


def _difference(table: Table, model: str, to: str, relation: Relation, how: Resampling) -> Difference:
    found = ratio_difference_interval(table.columns[model], table.columns[to], how)
    kind = table.kind
    judged = judge(kind.better, found)
    return Difference(
        model=model, to=to, relation=relation, value=found.value, low=found.low, high=found.high,
        better=judged, verdict=verdict(kind.title, model, to, kind.unit, judged, found),
    )  # fmt: skip
