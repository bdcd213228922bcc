"""Names beside points: near, inside their area, and never on one another or on a mark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from arriero.planning.pictures.canvas import SMALL, Box, Canvas, Point, text_box
from arriero.planning.pictures.measure import fitted, text_width

_LONGEST, _SAME = 165.0, 8.0
_STEPS = (9.0, 16.0, 24.0, 34.0, 46.0, 60.0, 78.0, 100.0, 130.0, 170.0, 220.0)
_TURNS = ((1, 0), (1, -0.7), (1, 0.7), (-1, 0), (-1, -0.7), (-1, 0.7), (0, -1), (0, 1))
_ON_DOT, _ON_LINE, _OVER_DOT, _OVER_LINE = 35.0, 5.0, 10.0, 1.5
"""What it costs, in units of distance, to cover a mark or a bit of a line, or to cross them with a leader."""
_NEAR, _CLEAR = 13.0, 9.0
"""A name farther from its mark gets a leader; so near its mark a leader may touch other marks."""


@dataclass(frozen=True)
class Name:
    """A text that belongs to a point."""

    text: str
    at: Point
    look: str = "softf"
    bold: bool = False


def name_points(
    canvas: Canvas, names: Sequence[Name], area: Box, marks: Sequence[Point], lines: Sequence[Point] = ()
) -> list[Box]:
    """Write the names, the first ones where they please; where one found no room, it is left out.

    Args:
        marks: points that no name may cover. lines: points along curves, which a name covers only if it must.
    """
    dots = [Box(x - 5, y - 5, 10, 10) for x, y in dict.fromkeys(marks)]
    soft = [Box(x - 2, y - 2, 4, 4) for x, y in lines]
    written: list[tuple[Name, str, Box]] = []
    taken: list[Box] = []
    for name in _together(names):
        text = fitted(name.text, _LONGEST, SMALL, bold=name.bold)
        box = _best(text, name, area, taken, dots, soft)
        if box is None:
            continue
        written.append((name, text, box))
        taken += [box, *(_spot(point) for point in _leader(box, name.at))]
    for name, _, box in written:  # below all names, so that none is struck through
        points = _leader(box, name.at)
        if points:
            (x, y), (u, v) = name.at, points[-1]
            canvas.path(f"M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}", "tick", more=' stroke-opacity=".7"')
    for name, text, box in written:
        canvas.text(box.x, box.y + 0.8 * SMALL, text, size=SMALL, look=name.look, bold=name.bold)
    return [box for _, _, box in written]


def _together(names: Sequence[Name]) -> list[Name]:
    """One name for marks that stand on one another: the first one's, and how many more there are."""
    found: list[tuple[Name, int]] = []
    for name in names:
        for place, (first, more) in enumerate(found):
            if math.dist(first.at, name.at) < _SAME:
                found[place] = (first, more + 1)
                break
        else:
            found.append((name, 0))
    return [replace(name, text=_counted(name, more)) if more else name for name, more in found]


def _counted(name: Name, more: int) -> str:
    tail = f" +{more}"
    room = _LONGEST - text_width(tail, SMALL, bold=name.bold)
    return fitted(name.text, room, SMALL, bold=name.bold) + tail


def _best(
    text: str, name: Name, area: Box, taken: Sequence[Box], dots: Sequence[Box], lines: Sequence[Box]
) -> Box | None:  # fmt: skip
    """The place with the least of distance and of what is covered or crossed; None where every place covers a name."""
    best, least = None, math.inf
    for box in _places(text, name):
        cost = _distance(box, name.at)
        if cost > least or not area.holds(box) or any(box.meets(other) for other in taken):
            continue
        cost += _ON_DOT * sum(map(box.meets, dots)) + _ON_LINE * sum(map(box.meets, lines))
        if cost >= least:
            continue
        way = [_spot(point) for point in _leader(box, name.at) if math.dist(point, name.at) > _CLEAR]
        if any(spot.meets(other) for spot in way for other in taken):
            continue
        cost += sum(
            _OVER_DOT * sum(map(spot.meets, dots)) + _OVER_LINE * sum(map(spot.meets, lines)) for spot in way
        )
        if cost < least:
            best, least = box, cost
    return best


def _leader(box: Box, at: Point) -> list[Point]:
    """Points from a mark to a name that stands too far from it to be seen as its own; none where it is near."""
    end = (min(max(at[0], box.x), box.right), min(max(at[1], box.y), box.bottom))
    length = _distance(box, at)
    if length <= _NEAR:
        return []
    steps = max(2, round(length / 4))
    return [
        (at[0] + (end[0] - at[0]) * i / steps, at[1] + (end[1] - at[1]) * i / steps)
        for i in range(1, steps + 1)
    ]


def _spot(point: Point) -> Box:
    return Box(point[0] - 1, point[1] - 1, 2, 2)


def _places(text: str, name: Name) -> Iterator[Box]:
    """Around the point, the nearest first."""
    size = text_box(0.0, 0.0, text, SMALL, bold=name.bold)
    x, y = name.at
    for step in _STEPS:
        for right, down in _TURNS:
            left = x + step if right > 0 else x - step - size.width if right < 0 else x - size.width / 2
            middle = y + down * (step + size.height / 2)
            yield Box(round(left, 1), round(middle - size.height / 2, 1), size.width, size.height)


def _distance(box: Box, at: Point) -> float:
    return math.dist(at, (min(max(at[0], box.x), box.right), min(max(at[1], box.y), box.bottom)))


def along(curve: Sequence[Point]) -> list[Point]:
    """Points on a curve so close to one another that no name slips between them."""
    found = list(curve[:1])
    for a, b in pairwise(curve):
        steps = max(1, math.ceil(math.dist(a, b) / 4))
        found += [
            (a[0] + (b[0] - a[0]) * i / steps, a[1] + (b[1] - a[1]) * i / steps) for i in range(1, steps + 1)
        ]
    return found
