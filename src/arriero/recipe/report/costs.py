"""Predicted beside measured: the dot-and-band chart of the times, and the table of everything."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost import Estimate, Quantity
from arriero.cost.units import UNKNOWN, format_quantity, format_seconds
from arriero.evaluation.scale import Scale, time_ticks
from arriero.recipe.report.data import ReportData, StageLine, error_factor
from arriero.recipe.report.totals import Totals

QUANTITIES = {
    "seconds": "time", "peak_memory": "peak memory", "flops": "arithmetic", "energy": "energy", "co2": "CO₂",
    "money": "money",
}  # fmt: skip
MARKS = {"measured": "m", "modelled": "~", "declared": "d", "unknown": "?"}
WIDE = 1.5
"""From this factor on, either way, a prediction counts as missed."""


_TICKS = 7
_WITH_BAND = ("seconds", "peak_memory")
"""What shows its band in the table; the others' bands are in report.json."""


@dataclass(frozen=True)
class Figure:
    """A quantity as text, with its mark and where it comes from."""

    text: str
    mark: str
    basis: str
    source: str


@dataclass(frozen=True)
class Cell:
    """One quantity of one stage, both sides."""

    measured: Figure
    predicted: Figure
    factor: str
    missed: bool


@dataclass(frozen=True)
class TimeRow:
    """One stage's times; positions in per cent of the track, None where there is no figure."""

    name: str
    reused: bool
    low: float | None
    width: float | None
    planned: float | None
    took: float | None
    measured: str
    predicted: str
    factor: str
    missed: bool


@dataclass(frozen=True)
class TableRow:
    name: str
    kind: str
    reused: bool
    state: str
    cells: list[Cell]


def figure(quantity: Quantity | None, *, band: bool = True) -> Figure:
    """A quantity for the page; None is unknown too."""
    q = quantity or Quantity.unknown("s", "not recorded")
    return Figure(format_quantity(q, band=band) if q.known else UNKNOWN, MARKS[q.basis], q.basis, q.source)


def time_rows(data: ReportData) -> tuple[list[TimeRow], list[tuple[float, str]]]:
    """A row for each stage that has a time, and the axis's ticks: (per cent, text)."""
    shown = [s for s in data.stages if _known(s.predicted) or _known(s.measured)]
    ends = [
        end
        for stage in shown
        for side in (stage.predicted, stage.measured)
        if side is not None
        for end in (side.seconds.low, side.seconds.high)
    ]
    scale = Scale.over(ends, log=True)
    if scale is None:
        return [], []
    return [_time_row(stage, scale) for stage in shown], _time_ticks(scale)


def _time_ticks(scale: Scale) -> list[tuple[float, str]]:
    """Times that people count in: 1 s, 3 s, 10 s, 30 s, 1 min …"""
    return [(scale.at(t), format_seconds(t, 1)) for t in time_ticks(scale, _TICKS)]


def _known(side: Estimate | None) -> bool:
    return side is not None and side.seconds.known and bool(side.seconds.value)


def _time_row(stage: StageLine, scale: Scale) -> TimeRow:
    predicted = stage.predicted.seconds if stage.predicted is not None and _known(stage.predicted) else None
    measured = stage.measured.seconds if stage.measured is not None and _known(stage.measured) else None
    low = high = planned = None
    if predicted is not None:
        assert predicted.low is not None and predicted.high is not None and predicted.value is not None
        low, high, planned = scale.at(predicted.low), scale.at(predicted.high), scale.at(predicted.value)
    factor = error_factor(predicted, measured)
    return TimeRow(
        stage.name, stage.reused, low, high - low if high is not None and low is not None else None, planned,
        scale.at(measured.value) if measured is not None and measured.value is not None else None,
        format_quantity(measured) if measured is not None else UNKNOWN,
        format_quantity(predicted) if predicted is not None else UNKNOWN,
        _factor_text(factor), _missed(factor),
    )  # fmt: skip


def shown_quantities(data: ReportData) -> dict[str, str]:
    """The table's columns; CO2 only where it is known of some stage, as nobody asked for it otherwise."""
    sheets = [side for stage in data.stages for side in (stage.predicted, stage.measured) if side is not None]
    with_co2 = any(sheet.co2.known for sheet in sheets)
    return {name: title for name, title in QUANTITIES.items() if name != "co2" or with_co2}


def cost_table(data: ReportData, sums: Totals) -> list[TableRow]:
    """All quantities of all stages, and their sum as the last row."""
    names = list(shown_quantities(data))
    rows = [
        TableRow(s.name, s.kind, s.reused, s.state, _cells(s.predicted, s.measured, names))
        for s in data.stages
        if s.predicted is not None or s.measured is not None
    ]
    if len(rows) > 1:
        rows.append(
            TableRow("total", "", False, "", _cells(sums.predicted, sums.compared or sums.measured, names))
        )
    return rows


def _cells(predicted: Estimate | None, measured: Estimate | None, names: list[str]) -> list[Cell]:
    cells = []
    for name in names:
        ours = getattr(predicted, name) if predicted is not None else None
        theirs = getattr(measured, name) if measured is not None else None
        factor = error_factor(ours, theirs)
        planned = figure(ours, band=name in _WITH_BAND)
        cells.append(Cell(figure(theirs, band=False), planned, _factor_text(factor), _missed(factor)))
    return cells


def _factor_text(factor: float | None) -> str:
    return f"× {factor:.2f}" if factor is not None else ""


def _missed(factor: float | None) -> bool:
    return factor is not None and not 1 / WIDE <= factor <= WIDE
