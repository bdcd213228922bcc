"""A finished picture: an SVG document that stands alone, and the same figures as lines for a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from arriero.planning.pictures.canvas import MARGIN, TITLE, WIDTH, Canvas
from arriero.planning.pictures.measure import clean, column
from arriero.planning.pictures.style import Theme, style

TOP = 34.0
"""Where the part below a picture's title begins."""
_COLUMNS = 80


@dataclass(frozen=True)
class Picture:
    """What was drawn.

    Attributes:
        name: of its file, in letters, digits, dashes and dots.
        title: what it shows.
        text: its text twin, lines of at most 80 columns.
        body: SVG elements. height: of the picture; its width is always the same.
    """

    name: str
    title: str
    text: str
    body: str
    height: float

    def svg(self, theme: Theme = "auto") -> str:
        """The whole SVG document; ``auto`` follows the reader's choice of light or dark."""
        size = f"{WIDTH:g} {self.height:g}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="pc" width="{WIDTH:g}" height="{self.height:g}" viewBox="0 0 {size}"'
            f' role="img" aria-label="{escape(self.title)}">\n{style(theme)}\n'
            f'<rect class="paperf" width="{WIDTH:g}" height="{self.height:g}"/>\n{self.body}\n</svg>\n'
        )


def begin(name: str, title: str) -> Canvas:
    """An empty picture with its title."""
    canvas = Canvas(file_name(name))
    canvas.text(MARGIN, 21, title, size=TITLE, look="inkf", bold=True, room=WIDTH - 2 * MARGIN)
    return canvas


def finish(canvas: Canvas, title: str, height: float, lines: list[str]) -> Picture:
    """The picture of what is on the canvas, ``lines`` its text twin below the title."""
    text = "\n".join([column(title, _COLUMNS).rstrip(), *(line.rstrip() for line in lines)])
    return Picture(canvas.name, clean(title), text, "\n".join(canvas.parts), round(height, 1))


def nothing(name: str, title: str, why: str) -> Picture:
    """The picture of no data: it says so."""
    canvas = begin(name, title)
    canvas.text(MARGIN, TOP + 12, why, room=WIDTH - 2 * MARGIN)
    return finish(canvas, title, TOP + 12 + MARGIN, [f"  {column(why, _COLUMNS - 2)}"])


def file_name(name: str) -> str:
    """``name`` with nothing in it that a file system or an identifier would stumble over."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip(".-")[:60] or "picture"
