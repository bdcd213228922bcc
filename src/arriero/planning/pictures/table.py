"""The small table below a picture, with the keys to its colours; the same in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from arriero.planning.pictures.canvas import MARGIN, ROW, SMALL, WIDTH, Box, Canvas
from arriero.planning.pictures.measure import cells, column, text_width

_KEY = 15.0
"""Room for the coloured key before a row."""
_SHARE, _LEAST, _BETWEEN = 0.34, 0.2, 10.0
"""Of the width, for the names: what they get before the heads, what they get before the figures."""
_TERMINAL = 78


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        cells: texts; the first stands left, the others right.
        colour: number of the key's colour; None leaves the key out. hatched: the key is hatched.
        shape: of the key. letter: the key in a terminal.
    """

    cells: list[str]
    colour: int | None = None
    shape: Literal["patch", "dot", "ring", "line", "dash", "star"] = "patch"
    hatched: bool = False
    letter: str = " "
    bold: bool = False


def draw_table(canvas: Canvas, y: float, heads: Sequence[str], rows: Sequence[Row]) -> float:
    """Draw the table with its upper edge at ``y``; returns where it ends. Texts that find no room are cut."""
    edges = _edges(heads, rows)
    if any(heads):
        y += ROW
        for place, head in enumerate(heads):
            _cell(canvas, place, head, edges, y - 4, "softf", False)
    for row in rows:
        canvas.path(f"M{MARGIN:g} {y:.1f}H{WIDTH - MARGIN:g}", "line")
        y += ROW
        _key(canvas, row, y - 9)
        for place, text in enumerate(row.cells):
            _cell(canvas, place, text, edges, y - 4.5, "inkf" if row.bold or place else "softf", row.bold)
    return y


def _edges(heads: Sequence[str], rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Left and right edge of every column. Figures are as wide as they are, heads and names share what is left."""
    count = max([len(heads), *(len(row.cells) for row in rows)], default=1)
    widths = [0.0] * count
    for row in rows:
        for place, text in enumerate(row.cells):
            widths[place] = max(widths[place], text_width(text, SMALL, bold=row.bold) + 0.5)
    room = WIDTH - 2 * MARGIN - _KEY - _BETWEEN * (count - 1)
    first, others = widths[0], widths[1:]
    spare = room - sum(others) - min(first, room * _SHARE)
    for place, head in enumerate(heads[1:]):
        more = min(max(0.0, text_width(head, SMALL) + 0.5 - others[place]), max(0.0, spare))
        others[place] += more
        spare -= more
    shrink = min(1.0, room * (1 - _LEAST) / sum(others)) if sum(others) else 1.0
    edges, right = [], WIDTH - MARGIN
    for width in reversed(others):
        edges.append((right - width * shrink, right))
        right -= width * shrink + _BETWEEN
    return [(MARGIN + _KEY, right), *reversed(edges)]


def _cell(
    canvas: Canvas, place: int, text: str, edges: Sequence[tuple[float, float]], y: float, look: str, bold: bool
) -> None:  # fmt: skip
    if not text:
        return
    left, right = edges[place]
    x, anchor = (left, "start") if place == 0 else (right, "end")
    canvas.text(x, y, text, size=SMALL, anchor=anchor, look=look, bold=bold, room=right - left)  # type: ignore[arg-type]


def _key(canvas: Canvas, row: Row, y: float) -> None:
    x = MARGIN + 5
    if row.hatched:
        canvas.rect(Box(x - 5, y - 5, 10, 10), "tick", more=f' fill="url(#{canvas.name}-hatch)"')
    if row.colour is None:
        return
    stroke, fill = f"c{row.colour}", f"c{row.colour}f"
    if row.shape == "patch":
        canvas.rect(Box(x - 5, y - 5, 10, 10), fill)
    elif row.shape == "dot":
        canvas.dot((x, y), fill)
    elif row.shape == "ring":
        canvas.dot((x, y), f"{stroke} paperf", radius=4, more=' stroke-width="1.6"')
    elif row.shape == "star":
        canvas.path(star((x, y), 6.5), fill, width=0)
    else:
        dashes = ' stroke-dasharray="4 3"' if row.shape == "dash" else ""
        canvas.path(f"M{x - 6:g} {y:.1f}h12", stroke, width=2, more=dashes)


def star(at: tuple[float, float], radius: float) -> str:
    """Path data of a star with four points."""
    x, y, r = *at, radius
    q = r * 0.36
    return (
        f"M{x:.1f} {y - r:.1f}L{x + q:.1f} {y - q:.1f}L{x + r:.1f} {y:.1f}L{x + q:.1f} {y + q:.1f}L{x:.1f} {y + r:.1f}"
        f"L{x - q:.1f} {y + q:.1f}L{x - r:.1f} {y:.1f}L{x - q:.1f} {y - q:.1f}Z"
    )


def table_lines(heads: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The table in at most 80 columns of a terminal."""
    texts = [list(heads), *(row.cells for row in rows)]
    count = max(len(line) for line in texts)
    widths = [max(cells(line[place]) for line in texts if place < len(line)) for place in range(count)]
    while sum(widths) + 2 * count > _TERMINAL:
        widest = max(range(count), key=lambda place: widths[place])
        widths[widest] -= 1
    found = []
    for letter, line in [(" ", list(heads)), *((row.letter, row.cells) for row in rows)]:
        if any(line):
            parts = [column(text, widths[place], right=place > 0) for place, text in enumerate(line)]
            found.append(f"{letter} " + "  ".join(parts).rstrip())
    return found
