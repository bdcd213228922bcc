"""Where a figure stands on a chart: shares of the width, and round tick values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_ROUND_TIMES = (
    *(m * 10.0**d for d in range(-9, 1) for m in (1, 3)), 10.0, 30.0, *(60.0 * m for m in (1, 3, 10, 30)),
    *(3600.0 * h for h in (1, 3, 10)), *(86400.0 * d for d in (1, 3, 10, 30, 100, 300, 1000)),
)  # fmt: skip
_TIME_UNITS = (86400.0, 3600.0, 60.0, 1.0)


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis from ``low`` to ``high``."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float | None], *, log: bool = False, margin: float = 0.06) -> Scale | None:
        """An axis that holds all the values with some room at the ends; None when there is no value to hold."""
        known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
        if not known:
            return None
        low, high = min(known), max(known)
        if log:
            low, high = low / 1.3, high * 1.3
            return cls(low, high, True)
        room = (high - low) * margin or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """Per cent of the width, kept inside 0 to 100."""
        if self.log:
            if value <= 0:
                return 0.0
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values on the axis, at most about ``most``."""
        return _log_ticks(self.low, self.high, most) if self.log else _ticks(self.low, self.high, most)


def _ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(found) <= most:
            break
    return evenly(found, most) if len(found) > 1 else _ticks(low, high, most - 1)


def time_ticks(scale: Scale, most: int = 7) -> list[float]:
    """Seconds that people count in: 1 s, 3 s, 10 s, 30 s, 1 min ..., whole hours, whole days."""
    if scale.log:
        inside = [t for t in _ROUND_TIMES if scale.low <= t <= scale.high]
        return evenly(inside, most) if len(inside) > 1 else scale.ticks(most)
    unit = next((unit for unit in _TIME_UNITS if scale.high >= 2 * unit), 1.0)
    return [unit * tick for tick in _ticks(scale.low / unit, scale.high / unit, most)]


def evenly(ticks: list[float], most: int) -> list[float]:
    """Every n-th tick, so that at most ``most`` are left."""
    return ticks[:: math.ceil(len(ticks) / most)] if ticks else []


def thinned(points: Sequence[tuple[float, float]], most: int = 240) -> list[tuple[float, float]]:
    """Means of neighbouring points, so that a long curve stays light; short ones stay as they are."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
