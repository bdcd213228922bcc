"""Where the time of a step goes: a cascade of the additive model's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arriero.planning.pictures.canvas import BODY, MARGIN, SMALL, WIDTH, Box, Canvas
from arriero.planning.pictures.figures import banded, finite, share
from arriero.planning.pictures.measure import column, text_width
from arriero.planning.pictures.picture import TOP, Picture, begin, finish, nothing

TERMS = {
    "products": ("matrix products", 1), "attention": ("attention", 5), "elementwise": ("element-wise", 2),
    "head": ("head and loss", 3), "optimizer": ("optimizer", 4), "communication": ("communication", 6),
    "bubble": ("pipeline bubble", 7), "host": ("host", 0),
}  # fmt: skip
"""By term: what it is called and its colour."""
_NAMES, _VALUES, _GAP, _PITCH, _BAR = 116.0, 190.0, 8.0, 22.0, 13.0
_CELLS = 30


@dataclass(frozen=True)
class Term:
    """Seconds of one term; ``low`` and ``high`` are None where it has no band."""

    name: str
    seconds: float
    low: float | None = None
    high: float | None = None


def waterfall_picture(
    terms: Sequence[Term], *, total: Term | None = None, title: str = "Where the time of a step goes", name: str = "time"
) -> Picture:  # fmt: skip
    """Each term begins where the one before it ends; the last bar is all of them.

    Args:
        total: the sum with its band; worked out from the terms' middles where it is None.
    """
    terms = [term for term in terms if finite(term.seconds) and term.seconds >= 0]
    whole = sum(term.seconds for term in terms)
    if whole <= 0:
        return nothing(name, title, "no term of the time is known")
    total = total if total is not None and finite(total.seconds) else Term("together", whole)
    ends = max(whole, total.seconds, total.high or 0.0)
    values = [_value(term, whole) for term in terms]
    widest = max(text_width(text, SMALL, bold=True) for text in [*values, _value(total, None)])
    right = WIDTH - MARGIN - min(widest, _VALUES)
    area = Box(MARGIN + _NAMES, TOP, right - _GAP - MARGIN - _NAMES, 0.0)
    canvas, y, start = begin(name, title), TOP + 6, 0.0
    for term, value in zip(terms, values, strict=True):
        _draw(canvas, y, _title(term), value, area, (start / ends, term.seconds / ends), f"c{_colour(term)}f")
        start += term.seconds
        x = area.x + area.width * start / ends
        canvas.path(f"M{x:.1f} {y + _BAR:.1f}v{_PITCH - _BAR:g}", "tick")
        y += _PITCH
    _draw(canvas, y, total.name, _value(total, None), area, (0.0, total.seconds / ends), "tickf", bold=True)
    if total.low is not None and total.high is not None and total.low < total.high:
        low, high = (area.x + area.width * end / ends for end in (total.low, total.high))
        for look, width in (("gap", 4.0), ("ink", 1.5)):
            canvas.path(f"M{low:.1f} {y + _BAR / 2:.1f}H{high:.1f}M{low:.1f} {y + 2:.1f}v{_BAR - 4:g}M{high:.1f} {y + 2:.1f}v{_BAR - 4:g}", look, width=width)  # fmt: skip
    return finish(canvas, title, y + _PITCH + MARGIN / 2, _lines(terms, total, whole))


def _title(term: Term) -> str:
    return TERMS[term.name][0] if term.name in TERMS else term.name


def _colour(term: Term) -> int:
    return TERMS[term.name][1] if term.name in TERMS else 1


def _value(term: Term, whole: float | None) -> str:
    text = banded(term.seconds, term.low, term.high, "s")
    return f"{text} · {share(term.seconds / whole)}" if whole else text


def _draw(
    canvas: Canvas, y: float, title: str, value: str, area: Box, span: tuple[float, float], look: str, *, bold: bool = False
) -> None:  # fmt: skip
    middle = y + _BAR - 2.5
    canvas.text(MARGIN, middle, title, size=SMALL if not bold else BODY, look="inkf", bold=bold, room=_NAMES - _GAP)  # fmt: skip
    bar = Box(area.x + area.width * span[0], y, max(1.0, area.width * span[1]), _BAR)
    canvas.rect(bar, look, tip=f"{title}: {value}")
    canvas.text(WIDTH - MARGIN, middle, value, size=SMALL, anchor="end", look="inkf", bold=bold, room=_VALUES)


def _lines(terms: Sequence[Term], total: Term, whole: float) -> list[str]:
    found, start = [], 0.0
    for term in terms:
        before, after = round(_CELLS * start / whole), round(_CELLS * (start + term.seconds) / whole)
        bar = " " * min(before, _CELLS - 1) + ("█" * (after - before) or "▏")
        found.append(_line(_title(term), bar, _value(term, whole)))
        start += term.seconds
    return [*found, _line(total.name, "=" * _CELLS, _value(total, None))]


def _line(title: str, bar: str, value: str) -> str:
    return f"  {column(title, 16)} {bar:<{_CELLS}} {column(value, 29, right=True)}"
