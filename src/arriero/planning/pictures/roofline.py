"""The roofline of a device with a model's operations on it (Williams, Waterman and Patterson 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arriero.cost.units import round_text
from arriero.evaluation.scale import Scale
from arriero.evaluation.text_plot import text_plot
from arriero.planning.pictures.axes import Axes
from arriero.planning.pictures.canvas import MARGIN, WIDTH, Box, Canvas
from arriero.planning.pictures.figures import finite, rate, share
from arriero.planning.pictures.labels import Name, along, name_points
from arriero.planning.pictures.measure import brief, column
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing
from arriero.planning.pictures.table import Row, draw_table, table_lines

_HEIGHT = 250.0
_STEPS = 24


@dataclass(frozen=True)
class Roof:
    """What a device can do: FLOP/s at its peak and bytes/s of its memory; ``name`` says of which dtype."""

    name: str
    peak: float
    bandwidth: float

    def at(self, intensity: float) -> float:
        """FLOP/s that can be reached at so many FLOP a byte."""
        return min(self.peak, self.bandwidth * intensity)

    @property
    def ridge(self) -> float:
        """FLOP a byte from which on arithmetic is the limit."""
        return self.peak / self.bandwidth


@dataclass(frozen=True)
class Operation:
    """One kind of work.

    Attributes:
        intensity: FLOP a byte of memory traffic.
        rate: FLOP/s reached (measured or modelled); None puts it on the roof.
        kind: products, attention, decode or anything else; it picks the colour.
        roof: which of the roofs it runs under.
    """

    name: str
    intensity: float
    rate: float | None = None
    kind: str = "products"
    roof: int = 0


_COLOURS = {"products": 1, "attention": 5, "decode": 2, "head": 3, "elementwise": 4}


def roofline_picture(
    roofs: Sequence[Roof], operations: Sequence[Operation], *, title: str = "Roofline", name: str = "roofline"
) -> Picture:  # fmt: skip
    """The roofs as lines, the operations as points: on the slope memory is the limit, on the flat part arithmetic."""
    roofs = [roof for roof in roofs if finite(roof.peak) and finite(roof.bandwidth) and roof.peak > 0 < roof.bandwidth]  # fmt: skip
    if not roofs:
        return nothing(name, title, "the device's rates are unknown")
    points = [
        (operation, roof, operation.rate if operation.rate is not None else roof.at(operation.intensity))
        for operation in operations
        if finite(operation.intensity) and operation.intensity > 0 and (operation.rate is None or (finite(operation.rate) and operation.rate > 0))
        for roof in [roofs[min(operation.roof, len(roofs) - 1)]]
    ]  # fmt: skip
    axes = _axes(roofs, points)
    canvas = begin(name, title)
    axes.draw(
        canvas, x_words=lambda value: round_text(value, 1), y_words=lambda value: rate(value, ""),
        x_title="FLOP a byte of traffic", y_title="FLOP/s",
    )  # fmt: skip
    curves = [[axes.place((x, roof.at(x))) for x in _along(axes.x, roof.ridge)] for roof in roofs]
    for number, curve in enumerate(curves):
        canvas.curve(curve, "ink" if number == 0 else "tick", more=axes_clip(canvas, axes))
    places = [axes.place((operation.intensity, reached)) for operation, _, reached in points]
    for (operation, _, reached), place in zip(points, places, strict=True):
        canvas.dot(place, f"{_look(operation)}f gap", tip=f"{operation.name}: {rate(reached, 'FLOP/s')}", more=' stroke-width="1.5"')  # fmt: skip
    names = [Name(operation.name, place, "inkf") for (operation, _, _), place in zip(points, places, strict=True)]  # fmt: skip
    ends = [
        Name(roof.name, (axes.area.right - 24, axes.place((1.0, roof.peak))[1]), "softf") for roof in roofs
    ]
    name_points(
        canvas, [*names, *ends], axes.area, places, [point for curve in curves for point in along(curve)]
    )
    rows, heads = _rows(roofs, points), ["", "FLOP/B", "reached", "of roof", "limit"]
    y = draw_table(canvas, axes.area.bottom + 42, heads, rows)
    return finish(canvas, title, y + MARGIN, [*_lines(axes, roofs, points), *table_lines(heads, rows)])


def axes_clip(canvas: Canvas, axes: Axes) -> str:
    """The attribute that keeps a curve inside the plotting area."""
    return canvas.clip(axes.area)


_Points = Sequence[tuple[Operation, Roof, float]]


def _axes(roofs: Sequence[Roof], points: _Points) -> Axes:
    across = [roof.ridge for roof in roofs] + [operation.intensity for operation, _, _ in points]
    low, high = min(across) / 3, max(across) * 4
    lowest = min([roof.at(low) for roof in roofs] + [reached for _, _, reached in points])
    top = max([roof.peak for roof in roofs] + [reached for _, _, reached in points])
    area = Box(MARGIN + 36, TOP + 18, WIDTH - 2 * MARGIN - 40, _HEIGHT)
    return Axes(area, Scale(low, high, log=True), Scale(lowest / 1.3, top * 4, log=True))


def _along(scale: Scale, ridge: float) -> list[float]:
    span = (scale.high / scale.low) ** (1 / _STEPS)
    return sorted([*(scale.low * span**step for step in range(_STEPS + 1)), ridge])


def _look(operation: Operation) -> str:
    return f"c{_COLOURS.get(operation.kind, 0)}"


def _reached(operation: Operation, roof: Roof, reached: float) -> tuple[str, str]:
    """The rate and its share of what the roof allows; where nobody told a rate, the roof is its upper end."""
    if operation.rate is None:
        return f"≤ {rate(reached, 'FLOP/s')}", "–"
    return rate(reached, "FLOP/s"), share(reached / roof.at(operation.intensity))


def _rows(roofs: Sequence[Roof], points: _Points) -> list[Row]:
    found = [
        Row(
            [
                operation.name, round_text(operation.intensity), *_reached(operation, roof, reached),
                "memory" if operation.intensity < roof.ridge else "arithmetic",
            ],
            colour=_COLOURS.get(operation.kind, 0), shape="dot", letter="o",
        )
        for operation, roof, reached in points
    ]  # fmt: skip
    for roof in roofs:
        texts = [roof.name, round_text(roof.ridge), rate(roof.peak, "FLOP/s"), rate(roof.bandwidth, "B/s"), "the roof"]  # fmt: skip
        found.append(Row(texts, letter="-"))
    return found


def _lines(axes: Axes, roofs: Sequence[Roof], points: _Points) -> list[str]:
    steps = [axes.x.low * (axes.x.high / axes.x.low) ** (step / 63) for step in range(64)]
    curves = {"-·~"[number % 3]: [(x, roof.at(x)) for x in steps] for number, roof in enumerate(roofs)}
    if points:
        curves["o"] = [(operation.intensity, reached) for operation, _, reached in points]
    drawn = text_plot(
        curves, x_text=lambda value: brief(f"{round_text(value, 2)} FLOP/B", 18), y_text=lambda value: column(rate(value, "FLOP/s"), 14, right=True),
        log_y=True, width=60, height=12,
    )  # fmt: skip
    return [f"  {line}" for line in drawn.splitlines()]
