"""A picture while it is drawn: shapes and texts with their places, in units of about a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from arriero.planning.pictures.measure import clean, fitted, text_width

WIDTH = 440.0
"""Of every picture: a phone shows it at four fifths, with letters that can still be read."""
MARGIN = 14.0
BODY, SMALL, TITLE = 12.5, 11.0, 15.0
"""Sizes of letters."""
ROW = 17.0
"""Height of a line of text."""
Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle: its left upper corner and its sizes."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    def meets(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        return (
            self.x < other.right and other.x < self.right and self.y < other.bottom and other.y < self.bottom
        )

    def holds(self, other: Box) -> bool:
        """Whether the other lies inside."""
        return (
            self.x <= other.x
            and other.right <= self.right
            and self.y <= other.y
            and other.bottom <= self.bottom
        )


def text_box(
    x: float, y: float, text: str, size: float, anchor: Anchor = "start", *, bold: bool = False
) -> Box:
    """Where a text on the base line ``y`` lies."""
    width = text_width(text, size, bold=bold)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return Box(left, y - 0.8 * size, width, size)


@dataclass
class Canvas:
    """What was drawn so far.

    Attributes:
        name: makes the identifiers of this picture's patterns its own, where several share a page.
        parts: SVG elements in the order of painting.
    """

    name: str
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, *, size: float = BODY, anchor: Anchor = "start", look: str = "softf",
        bold: bool = False, room: float | None = None,
    ) -> Box:  # fmt: skip
        """Write a text, cut to ``room`` with the whole of it as a tooltip; returns where it lies."""
        shown = fitted(text, room, size, bold=bold) if room is not None else clean(text)
        tip = f"<title>{escape(clean(text))}</title>" if shown != clean(text) else ""
        side = f' text-anchor="{anchor}"' if anchor != "start" else ""
        look = f"{look} b" if bold else look
        self.parts.append(
            f'<text class="{look}" x="{number(x)}" y="{number(y)}" font-size="{number(size)}"{side}>{escape(shown)}{tip}</text>'
        )
        return text_box(x, y, shown, size, anchor, bold=bold)

    def rect(self, box: Box, look: str, *, tip: str = "", radius: float = 0.0, more: str = "") -> None:
        """A filled rectangle; ``tip`` is shown when it is pointed at."""
        rounded = f' rx="{number(radius)}"' if radius else ""
        head = f'<rect class="{look}" x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" height="{number(box.height)}"{rounded}{more}'
        self.parts.append(f"{head}><title>{escape(clean(tip))}</title></rect>" if tip else f"{head}/>")

    def path(self, data: str, look: str, *, width: float = 1.0, more: str = "") -> None:
        """A line by SVG path data."""
        self.parts.append(f'<path class="{look}" stroke-width="{number(width)}" d="{data}"{more}/>')

    def curve(self, points: Sequence[Point], look: str, *, width: float = 1.75, more: str = "") -> None:
        """A line through the points."""
        places = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(
            f'<polyline class="{look}" stroke-width="{number(width)}" stroke-linejoin="round" points="{places}"{more}/>'
        )

    def area(self, points: Sequence[Point], look: str, opacity: float) -> None:
        """A filled shape between the points."""
        places = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polygon class="{look}" fill-opacity="{number(opacity)}" points="{places}"/>')

    def dot(self, at: Point, look: str, *, radius: float = 4.5, tip: str = "", more: str = "") -> None:
        """A small circle."""
        head = f'<circle class="{look}" cx="{number(at[0])}" cy="{number(at[1])}" r="{number(radius)}"{more}'
        self.parts.append(f"{head}><title>{escape(clean(tip))}</title></circle>" if tip else f"{head}/>")

    def hatch(self) -> str:
        """Defines slanted hatching for this picture; returns what fills with it."""
        name = f"{self.name}-hatch"
        self.parts.append(
            f'<pattern id="{name}" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<path class="tick" stroke-width="2.4" d="M0 0V5"/></pattern>'
        )
        return f"url(#{name})"

    def clip(self, box: Box) -> str:
        """Defines a clipping area; returns the attribute that clips to it."""
        name = f"{self.name}-area-{len(self.parts)}"
        self.parts.append(
            f'<clipPath id="{name}"><rect x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" height="{number(box.height)}"/></clipPath>'
        )
        return f' clip-path="url(#{name})"'


def number(value: float) -> str:
    """A coordinate: a tenth of a unit is finer than anyone sees."""
    return f"{round(value, 1):g}"
