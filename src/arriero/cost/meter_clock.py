"""Seconds that a stage really took, from two clocks that watch one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GAP_S = 30.0
"""From this long without a sample on, somebody held the process or the machine up."""
_TOLERANCE_S = 1.0


@dataclass
class Stopwatch:
    """Adds up the time between readings and tells which of it is strange.

    Args:
        wall: seconds of a clock that nobody sets and that stands still while the machine sleeps.
        boot: seconds of one that runs on meanwhile; None when the system has none.

    A step back counts nothing. Where the two clocks disagree, the smaller step counts: the machine slept, or a clock
    jumped. A long step on which both agree counts in full, as the machine was held for so long, but it is told.
    """

    wall: Callable[[], float]
    boot: Callable[[], float] | None = None
    seconds: float = 0.0
    asleep: float = 0.0
    jumped: float = 0.0
    gaps: float = 0.0

    def start(self) -> None:
        """Begin now."""
        self._last = self._read()

    def look(self) -> float:
        """Take a reading and return the seconds so far."""
        now = self._read()
        wall, boot = (after - before for after, before in zip(now, self._last, strict=True))
        self._last = now
        step = max(0.0, min(wall, boot))
        if min(wall, boot) < 0:
            self.jumped += -min(wall, boot)
        elif wall > boot + _TOLERANCE_S:
            self.jumped += wall - boot
        elif boot > wall + _TOLERANCE_S:
            self.asleep += boot - wall
        if step > GAP_S:
            self.gaps += step
        self.seconds += step
        return self.seconds

    def _read(self) -> tuple[float, float]:
        wall = self.wall()
        return wall, self.boot() if self.boot is not None else wall
