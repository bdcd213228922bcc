"""What compression saved, and what it cost in quality."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.units import format_bytes
from arriero.evaluation.scores import Measure, ModelLine, Scores, plain, signed
from arriero.recipe.report.data import ReportData
from arriero.recipe.report.evaluation import read_scores

COMPRESSED = ("quantize", "prune", "distill")


@dataclass(frozen=True)
class Row:
    """One compressed model, or the one that it came from."""

    name: str
    format: str
    bytes: str
    smaller: str
    share: float
    """bytes in per cent of the largest in the table"""
    score: str
    change: str
    change_band: str
    mark: str


@dataclass(frozen=True)
class Table:
    title: str
    rows: list[Row]


def compression_tables(data: ReportData) -> list[Table]:
    """A table for every evaluation that compares compressed models with what they came from."""
    tables = []
    for sheet in data.evaluations:
        scores = read_scores(sheet)
        lines = {line.name: line for line in scores.models}
        pressed = [line for line in scores.models if line.kind in COMPRESSED and line.parent in lines]
        if not pressed or not scores.measures:
            continue
        parents = [lines[name] for name in dict.fromkeys(line.parent or "" for line in pressed)]
        largest = max((line.weight_bytes or 0 for line in [*parents, *pressed]), default=0)
        rows = [_row(line, lines, scores, largest) for line in [*parents, *pressed]]
        tables.append(Table(scores.measures[0].title, rows))
    return tables


def _row(line: ModelLine, lines: dict[str, ModelLine], scores: Scores, largest: int) -> Row:
    measure = scores.measures[0]
    score = next((s for s in measure.scores if s.model == line.name), None)
    parent = lines.get(line.parent or "") if line.kind in COMPRESSED else None
    smaller = "–"
    if parent is not None and parent.weight_bytes and line.weight_bytes:
        smaller = f"{parent.weight_bytes / line.weight_bytes:.1f} × smaller"
    change, band, mark = _change(measure, line, parent)
    return Row(
        line.name, line.format, format_bytes(line.weight_bytes), smaller,
        round(100 * (line.weight_bytes or 0) / largest, 2) if largest else 0.0,
        plain(score.value, measure.unit) if score else "–", change, band, mark,
    )  # fmt: skip


def _change(measure: Measure, line: ModelLine, parent: ModelLine | None) -> tuple[str, str, str]:
    found = next(
        (d for d in measure.differences if parent and (d.model, d.to) == (line.name, parent.name)), None
    )
    if found is None:
        return "–", "", "even"
    band = ""
    if found.low is not None and found.high is not None:
        band = f"{signed(found.low, measure.unit)} to {signed(found.high, measure.unit)}"
    return (
        signed(found.value, measure.unit),
        band,
        "even" if found.better is None else "better" if found.better else "worse",
    )
