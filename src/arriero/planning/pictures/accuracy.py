"""Predicted beside measured, one panel for each quantity: logarithmic, with the diagonal and ±10 and ±25 % about it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from arriero.evaluation.scale import Scale, time_ticks
from arriero.planning.pictures.axes import Axes, ticks
from arriero.planning.pictures.canvas import BODY, MARGIN, ROW, SMALL, WIDTH, Box, Canvas, text_box
from arriero.planning.pictures.figures import figure, finite, short, signed_percent
from arriero.planning.pictures.measure import column
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing

QUANTITIES = {
    "seconds": "time", "peak_memory": "peak memory", "flops": "arithmetic", "energy": "energy", "co2": "CO₂",
    "money": "money",
}  # fmt: skip
BANDS = (0.10, 0.25)
_SIDE, _LISTED, _FINE = 150.0, 12, 10.0
_OWN_UNITS = ("s", "B", "FLOP", "J", "g")
_GAUGE, _WIDEST = 25, 0.6
"""Cells of the terminal's gauge, and the error at its ends."""


@dataclass(frozen=True)
class Pair:
    """One quantity of one stage, both sides in one unit.

    Attributes:
        low, high: ends of the predicted band.
        run: whose stage it is, where several runs share a picture.
    """

    stage: str
    quantity: str
    unit: str
    predicted: float
    measured: float
    low: float | None = None
    high: float | None = None
    run: str = ""

    @property
    def error(self) -> float:
        """predicted / measured - 1, as in the ledger."""
        return self.predicted / self.measured - 1

    @property
    def name(self) -> str:
        return f"{self.run} {self.stage}".strip()


def accuracy_picture(
    pairs: Sequence[Pair], *, title: str = "Predicted and measured", name: str = "accuracy"
) -> Picture:  # fmt: skip
    """A panel for each quantity that has both sides somewhere, its figures beside it."""
    panels = _panels(pairs)
    if not panels:
        return nothing(name, title, "nothing has both a prediction and a measurement yet")
    canvas, y, lines = begin(name, title), TOP, []
    for quantity, found in panels.items():
        y = _draw_panel(canvas, y, quantity, found)
        lines += _lines(quantity, found)
    canvas.text(MARGIN, y + 8, "Across: measured; up: predicted, with its stated band.", size=_FINE)
    canvas.text(MARGIN, y + 22, "The dark strip is ±10 % about the diagonal, the pale one ±25 %.", size=_FINE)
    return finish(canvas, title, y + 22 + MARGIN, lines)


def summary(pairs: Sequence[Pair]) -> str:
    """ "7 of 9 within ±10 %, 9 within ±25 %; 8 of 9 inside their band"."""
    errors = [abs(pair.error) for pair in pairs]
    near, wide = (sum(error <= band for error in errors) for band in BANDS)
    banded = [pair for pair in pairs if pair.low is not None and pair.high is not None]
    inside = sum((p.low or 0.0) <= p.measured <= (p.high or 0.0) for p in banded)
    text = f"{near} of {len(pairs)} within ±10 %, {wide} within ±25 %"
    return f"{text}; {inside} of {len(banded)} inside their band" if banded else text


def median_error(pairs: Sequence[Pair]) -> str:
    """ "median error 4 %"."""
    return f"median error {signed_percent(statistics.median(abs(pair.error) for pair in pairs)).lstrip('+±')}"


def _panels(pairs: Sequence[Pair]) -> dict[tuple[str, str], list[Pair]]:
    """By quantity and unit, in the order of the sheet: what can be drawn on logarithmic axes."""
    order = [*QUANTITIES, *(pair.quantity for pair in pairs)]
    found: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        if finite(pair.predicted) and finite(pair.measured) and pair.predicted > 0 < pair.measured:
            found.setdefault((pair.quantity, pair.unit), []).append(pair)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0][0])))


def _listed(pairs: Sequence[Pair]) -> list[Pair]:
    """All of them, or the worst where there are many, in their order."""
    if len(pairs) <= _LISTED:
        return list(pairs)
    worst = sorted(range(len(pairs)), key=lambda i: -abs(pairs[i].error))[:_LISTED]
    return [pairs[i] for i in sorted(worst)]


def _title(quantity: tuple[str, str]) -> str:
    name, unit = QUANTITIES.get(quantity[0], quantity[0]), quantity[1]
    return name if unit in _OWN_UNITS else f"{name}, {unit}"


def _figure(value: float, unit: str, digits: int = 3) -> str:
    """A figure in the unit that suits it; sums of money alone, their currency is in the title."""
    return figure(value, unit, digits) if unit in _OWN_UNITS else short(value, digits)


def _figures(pair: Pair) -> str:
    return f"{_figure(pair.predicted, pair.unit, 2)} → {_figure(pair.measured, pair.unit)}"


def _draw_panel(canvas: Canvas, y: float, quantity: tuple[str, str], pairs: Sequence[Pair]) -> float:
    room = WIDTH - 2 * MARGIN
    box = canvas.text(WIDTH - MARGIN, y + 12, median_error(pairs), size=SMALL, anchor="end", look="inkf")
    title = _title(quantity)
    canvas.text(MARGIN, y + 12, title, size=BODY, look="inkf", bold=True, room=box.x - MARGIN - 10)
    canvas.text(MARGIN, y + 27, summary(pairs), size=_FINE, room=room)
    axes = _axes(Box(MARGIN, y + 38, _SIDE, _SIDE), pairs)
    _draw_bands(canvas, axes)
    _draw_ticks(canvas, axes, quantity[1])
    for pair in pairs:
        _draw_pair(canvas, axes, pair)
    bottom = _draw_list(canvas, y + 36, pairs)
    return max(axes.area.bottom + 34, bottom + 14)


def _axes(area: Box, pairs: Sequence[Pair]) -> Axes:
    ends = [end for pair in pairs for end in (pair.predicted, pair.measured)]
    low, high = min(ends) / 1.6, max(ends) * 1.6
    scale = Scale(low, high, log=True)
    return Axes(area, scale, scale)


def _draw_bands(canvas: Canvas, axes: Axes) -> None:
    clip, (low, high) = canvas.clip(axes.area), (axes.x.low, axes.x.high)
    canvas.parts.append(f"<g{clip}>")
    for band, opacity in zip(reversed(BANDS), (0.13, 0.22), strict=True):
        corners = []
        for edge, ends in ((1 + band, (low, high)), (1 / (1 + band), (high, low))):
            corners += [_beyond(axes, (end, end * edge)) for end in ends]
        canvas.area(corners, "c1f", opacity)
    canvas.parts.append("</g>")
    canvas.path(f"M{axes.area.x:g} {axes.area.bottom:.1f}L{axes.area.right:.1f} {axes.area.y:.1f}", "tick")
    canvas.path(f"M{axes.area.x:g} {axes.area.y:.1f}v{axes.area.height:g}h{axes.area.width:g}", "line")


def _beyond(axes: Axes, point: tuple[float, float]) -> tuple[float, float]:
    """Where a point lies that may be above or below the axes' ends (the scale alone would move it to the edge)."""
    x, _ = axes.place(point)
    wide = Scale(axes.y.low / 4, axes.y.high * 4, log=True)
    share = (wide.at(point[1]) - wide.at(axes.y.low)) / (wide.at(axes.y.high) - wide.at(axes.y.low))
    return x, axes.area.bottom - share * axes.area.height


def _draw_ticks(canvas: Canvas, axes: Axes, unit: str) -> None:
    """Round values below the panel; the upright axis has the same."""
    area, edge = axes.area, 0.0
    for tick in time_ticks(axes.x, 4) if unit == "s" else ticks(axes.x, 4):
        x, y = axes.place((tick, tick))
        canvas.path(f"M{x:.1f} {area.bottom:.1f}v4M{area.x:.1f} {y:.1f}h4", "tick")
        text = _figure(tick, unit, 1)
        box = text_box(x, 0.0, text, _FINE, "middle")
        if box.x > edge and box.right < area.right + 16:
            canvas.text(box.x, area.bottom + 15, text, size=_FINE)
            edge = box.right + 6


def _look(pair: Pair) -> str:
    return "c1f" if abs(pair.error) <= BANDS[0] else "c2f" if abs(pair.error) <= BANDS[1] else "badf"


def _draw_pair(canvas: Canvas, axes: Axes, pair: Pair) -> None:
    x, y = axes.place((pair.measured, pair.predicted))
    if pair.low is not None and pair.high is not None and 0 < pair.low < pair.high:
        low, high = (axes.place((pair.measured, end))[1] for end in (pair.low, pair.high))
        canvas.path(f"M{x:.1f} {low:.1f}V{high:.1f}", "tick", width=1.2)
    canvas.dot((x, y), f"{_look(pair)} gap", radius=4, tip=f"{pair.name}: {signed_percent(pair.error)}")


def _draw_list(canvas: Canvas, y: float, pairs: Sequence[Pair]) -> float:
    """Name and error on one line, the figures below them."""
    left, right = MARGIN + _SIDE + 22, WIDTH - MARGIN
    shown = _listed(pairs)
    for pair in shown:
        canvas.dot((left - 8, y + 7), _look(pair), radius=3)
        error = canvas.text(right, y + 11, signed_percent(pair.error), size=SMALL, anchor="end", look="inkf")
        edge = min(error.x - 10, right - 58)
        box = canvas.text(edge, y + 11, _figures(pair), size=SMALL, anchor="end", room=edge - left - 40)
        canvas.text(left, y + 11, pair.name, size=SMALL, look="inkf", room=box.x - left - 8)
        y += ROW
    if len(pairs) > len(shown):
        canvas.text(left, y + 11, f"the worst of {len(pairs)}", size=SMALL)
        y += ROW
    return y


def _lines(quantity: tuple[str, str], pairs: Sequence[Pair]) -> list[str]:
    shown = _listed(pairs)
    found = [f"  {column(_title(quantity), 40).rstrip()}: {median_error(pairs)}", f"    {summary(pairs)}"]
    for pair in shown:
        found.append(f"    {column(pair.name, 16)} {column(_figures(pair), 22, right=True)} {column(signed_percent(pair.error), 7, right=True)} {_gauge(pair)}")  # fmt: skip
    if len(pairs) > len(shown):
        found.append(f"    the worst of {len(pairs)}")
    return found


def _gauge(pair: Pair) -> str:
    """The error on a line from -60 to +60 %: a dot, and marks at ±10 and ±25 %."""

    def place(error: float) -> int:
        return round((max(-_WIDEST, min(_WIDEST, error)) + _WIDEST) / (2 * _WIDEST) * (_GAUGE - 1))

    cells = ["·"] * _GAUGE
    for band, mark in ((0.25, ":"), (0.10, "|")):
        cells[place(-band)] = cells[place(band)] = mark
    cells[place(pair.error)] = "●"
    return "".join(cells)
