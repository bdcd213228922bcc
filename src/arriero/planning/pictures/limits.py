"""A limit that somebody set (a deadline, a budget) as a dashed line across a picture."""

from __future__ import annotations

from typing import Literal

from arriero.planning.pictures.axes import Axes
from arriero.planning.pictures.canvas import Canvas, Point
from arriero.planning.pictures.figures import finite
from arriero.planning.pictures.labels import Name


def draw_limit(
    canvas: Canvas, axes: Axes, value: float | None, axis: Literal["x", "y"], text: str
) -> tuple[list[Name], list[Point]]:  # fmt: skip
    """Draw the line where its value lies in the picture; returns its name, to be placed, and points along it."""
    scale, area = (axes.x if axis == "x" else axes.y), axes.area
    if value is None or not finite(value) or not scale.low < value < scale.high:
        return [], []
    if axis == "x":
        x, _ = axes.place((value, axes.y.low))
        data, at = f"M{x:.1f} {area.y:.1f}V{area.bottom:.1f}", (x, area.y + 8)
        points = [(x, area.y + step) for step in range(0, int(area.height), 4)]
    else:
        _, y = axes.place((axes.x.low, value))
        data, at = f"M{area.x:.1f} {y:.1f}H{area.right:.1f}", (area.x + 10, y)
        points = [(area.x + step, y) for step in range(0, int(area.width), 4)]
    canvas.path(data, "bad", width=1.5, more=' stroke-dasharray="5 4"')
    return [Name(text, at, "badf")], points
