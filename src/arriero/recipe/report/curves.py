"""Curves over the steps of a run, drawn as SVG that stretches while its text stays text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

from arriero.cost.units import format_count
from arriero.evaluation.scale import Scale, thinned

_STEP_TICKS, _VALUE_TICKS = 4, 4
_LAST_TICK = 80.0
"""The axis's unit stands right of here."""
_DECADES = 30.0
"""Positive values that lie further apart than this factor are drawn on a logarithmic axis where a figure allows it."""
Points = list[tuple[float, float]]
Axis = Literal["close", "zero", "log"]
"""The values' own range; from zero on; logarithmic where they lie far apart."""


@dataclass(frozen=True)
class Series:
    """What is to be drawn: (step, value) in order.

    Attributes:
        kind: class of the line: ``train``, ``heldout``, or ``c1`` to ``c7``, the colours of a comparison.
        text: how the legend says it; empty: the line is not in the legend.
        dots: each value has its dot, because there are few.
    """

    points: Points
    kind: str
    text: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Line:
    """A series in the box: points of an SVG polyline, or of the polygon down to the line below."""

    kind: str
    text: str
    points: str
    dots: Points
    filled: bool = False


@dataclass(frozen=True)
class Mark:
    """Something that happened at a step."""

    at: float
    kind: str
    title: str


@dataclass(frozen=True)
class Curve:
    """A chart in a box of 100 by 100."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    caption: str
    marks: list[Mark] = field(default_factory=list)

    @property
    def legend(self) -> list[Line]:
        """The lines that the legend names."""
        return [line for line in self.lines if line.text]


def plain_tick(value: float) -> str:
    """ "3.5", "0.002"."""
    return f"{value:g}"


def series(metrics: Sequence[dict[str, Any]], name: str) -> Points:
    """(step, value) of every line that has the figure; what is no finite number is left out."""
    found = []
    for line in metrics:
        step, value = line.get("step"), line.get(name)
        if _is_number(step) and _is_number(value):
            found.append((float(step), float(value)))
    return found


def joined_end(points: Points) -> Points:
    """Means over stretches of steps, with a last one that is less than half as long as the one before joined to it.

    A run's last line tells of the steps since the line before, often of a single one.
    """
    if len(points) < 3:
        return points
    (start, _), (middle, before), (end, last) = points[-3:]
    whole, short = middle - start, end - middle
    if not 0 < 2 * short < whole:
        return points
    return [*points[:-2], (end, (whole * before + short * last) / (whole + short))]


def step_scale(metrics: Sequence[dict[str, Any]]) -> Scale | None:
    """The axis of all charts of a stage; None where its lines are not by step."""
    steps = [float(line["step"]) for line in metrics if _is_number(line.get("step"))]
    return Scale(min(steps), max(steps)) if steps and max(steps) > min(steps) else None


def draw(
    title: str,
    lines: Sequence[Series],
    x: Scale,
    caption: str,
    *,
    axis: Axis = "close",
    tick: Callable[[float], str] = plain_tick,
) -> Curve | None:
    """A chart of these lines; None where none has two points."""
    shown = [_thin(line) for line in lines if line.points]
    y = _value_scale([value for line in shown for _, value in line.points], axis)
    if y is None or all(len(line.points) < 2 for line in shown):
        return None
    drawn = []
    for line in shown:
        places = _places(line.points, x, y)
        drawn.append(Line(line.kind, line.text, _polyline(places), places if line.dots else []))
    return Curve(title, drawn, _step_ticks(x), _value_ticks(y, tick), caption)


def draw_stacked(
    title: str, lines: Sequence[Series], x: Scale, caption: str, *, tick: Callable[[float], str] = plain_tick
) -> Curve | None:
    """A chart of parts that add up, the first at the bottom. All have values at the same steps."""
    shown = [_thin(line) for line in lines if len(line.points) > 1]
    if not shown:
        return None
    steps = [step for step, _ in shown[0].points]
    below, tops = [0.0] * len(steps), []
    for line in shown:
        below = [base + value for base, (_, value) in zip(below, line.points, strict=True)]
        tops.append(below)
    y = _value_scale(below, "zero")
    if y is None:
        return None
    drawn, under = [], _places([(step, 0.0) for step in steps], x, y)
    for line, top in zip(shown, tops, strict=True):
        over = _places(list(zip(steps, top, strict=True)), x, y)
        drawn.append(Line(line.kind, line.text, _polyline([*over, *reversed(under)]), [], filled=True))
        under = over
    return Curve(title, drawn, _step_ticks(x), _value_ticks(y, tick), caption)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _thin(line: Series) -> Series:
    return line if line.dots else Series(thinned(line.points), line.kind, line.text)


def _value_scale(values: Sequence[float], axis: Axis) -> Scale | None:
    if axis == "log" and min(values, default=0.0) > 0 and max(values) / min(values) > _DECADES:
        return Scale.over(values, log=True)
    found = Scale.over(values)
    if found is None or axis != "zero":
        return found
    return Scale(0.0, found.high if found.high > 0 else 1.0)


def _places(points: Points, x: Scale, y: Scale) -> Points:
    return [(x.at(step), round(100 - y.at(value), 3)) for step, value in points]


def _polyline(points: Points) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _step_ticks(x: Scale) -> list[tuple[float, str]]:
    ticks = [(x.at(tick), format_count(tick)) for tick in x.ticks(_STEP_TICKS)]
    return [(at, text.replace(".00 ", " ")) for at, text in ticks if at <= _LAST_TICK]


def _value_ticks(y: Scale, tick: Callable[[float], str]) -> list[tuple[float, str]]:
    return [(round(100 - y.at(value), 3), tick(value)) for value in y.ticks(_VALUE_TICKS)]
