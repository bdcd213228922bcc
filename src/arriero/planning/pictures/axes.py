"""The frame of a picture with two axes: where a value lies, the grid and the tick texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from arriero.evaluation.scale import Scale
from arriero.planning.pictures.canvas import SMALL, WIDTH, Box, Canvas, Point, text_box

Words = Callable[[float], str]
"""A figure as text."""
_APART = 8.0


@dataclass(frozen=True)
class Axes:
    """A plotting area with its two scales."""

    area: Box
    x: Scale
    y: Scale

    def place(self, point: Point) -> Point:
        """Where a pair of values lies; what is beyond the scales lies on the edge."""
        across, up = self.x.at(point[0]) / 100, self.y.at(point[1]) / 100
        return self.area.x + across * self.area.width, self.area.bottom - up * self.area.height

    def draw(
        self, canvas: Canvas, *, x_words: Words, y_words: Words, x_title: str, y_title: str,
        x_ticks: Sequence[float] | None = None, y_ticks: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        """Grid, ticks and the names of the axes. Ticks whose texts would touch are left out."""
        area, self_y = self.area, y_ticks if y_ticks is not None else ticks(self.y, 5)
        for tick in self_y:
            _, y = self.place((self.x.low, tick))
            canvas.path(f"M{area.x:.1f} {y:.1f}H{area.right:.1f}", "line")
            canvas.text(
                area.x - 6, y + 4, y_words(tick), size=SMALL, anchor="end", room=max(area.x - 8, 12.0)
            )
        for tick, text, box in self._apart(x_ticks if x_ticks is not None else ticks(self.x, 6), x_words):
            x, _ = self.place((tick, self.y.low))
            canvas.path(f"M{x:.1f} {area.y:.1f}V{area.bottom + 4:.1f}", "line")
            canvas.text(box.x, area.bottom + 16, text, size=SMALL)
        canvas.text(area.x + area.width / 2, area.bottom + 32, x_title, size=SMALL, anchor="middle", room=area.width)  # fmt: skip
        canvas.text(area.right, area.y - 7, y_title, size=SMALL, anchor="end", room=area.width)

    def _apart(self, found: Sequence[float], words: Words) -> list[tuple[float, str, Box]]:
        """The ticks of the x axis, every n-th of them so that their texts have room beside one another."""
        for step in range(1, len(found) + 1):
            chosen = [(tick, words(tick), self._below(tick, words(tick))) for tick in found[::step]]
            if all(a.right + _APART <= b.x for (_, _, a), (_, _, b) in pairwise(chosen)):
                return chosen
        return []

    def _below(self, tick: float, text: str) -> Box:
        """Where a tick's text lies: centred on it, but not beyond the picture's edges."""
        box = text_box(self.place((tick, self.y.low))[0], 0.0, text, SMALL, "middle")
        return Box(min(max(box.x, 3.0), WIDTH - 3.0 - box.width), box.y, box.width, box.height)


def ticks(scale: Scale, most: int) -> list[float]:
    """At most ``most`` round values; on a logarithmic scale over many decades whole powers of ten."""
    if not scale.log or math.log10(scale.high / scale.low) < 2:
        return scale.ticks(most)[:most]
    first, last = math.ceil(math.log10(scale.low) - 1e-9), math.floor(math.log10(scale.high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    return [10.0**power for power in range(first, last + 1, step)]
