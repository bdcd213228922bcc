"""Intervals over seeds: Student's t, because three runs are too few for a bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
Ends = tuple[float, float]


def t_cumulative(t: float, degrees: float) -> float:
    """P(T <= t) of Student's t with any positive ``degrees`` of freedom.

    With t = sqrt(v) tan(a) the density becomes proportional to cos(a)^(v - 1) on a finite interval, where
    Gauss-Legendre quadrature is exact to rounding.
    """
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(math.pi)
    angle = math.atan(t / math.sqrt(degrees))
    points = angle / 2 * (_NODES + 1)
    return 0.5 + math.exp(log_scale) * angle / 2 * float((_WEIGHTS * np.cos(points) ** (degrees - 1)).sum())


@lru_cache(maxsize=256)
def t_quantile(share: float, degrees: float) -> float:
    """The t below which ``share`` (0.5 to 1) of the distribution lies."""
    if math.isinf(degrees):
        degrees = 1e6  # the normal distribution to 6 digits
    low, high = 0.0, 1.0
    while t_cumulative(high, degrees) < share:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cumulative(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def mean_ends(values: Sequence[float], confidence: float) -> Ends | None:
    """t-interval of the mean of ``values`` [n]; None for fewer than two."""
    return difference_ends(values, None, confidence)


def difference_ends(a: Sequence[float], b: Sequence[float] | None, confidence: float) -> Ends | None:
    """Interval of ``mean(a) - mean(b)``, with each side's own spread (Welch 1947).

    Args:
        a, b: figures of independent runs. A side that has no spread at all is written as ``Exact(value)``;
            ``b`` None stands for exactly 0.

    Returns:
        None where a side is a single run whose spread nobody knows.
    """
    sides = [a, b if b is not None else Exact(0.0)]
    value = float(np.mean(sides[0]) - np.mean(sides[1]))
    parts: list[tuple[float, int]] = []
    for side in sides:
        if isinstance(side, Exact):
            continue
        if len(side) < 2:
            return None
        parts.append((float(np.var(side, ddof=1)) / len(side), len(side) - 1))
    variance = sum(part for part, _ in parts)
    if not variance:
        return value, value
    degrees = variance**2 / sum(part**2 / n for part, n in parts)
    reach = t_quantile((1 + confidence) / 2, degrees) * math.sqrt(variance)
    return value - reach, value + reach


class Exact(tuple[float, ...]):
    """A figure without spread over seeds: counting n-grams draws nothing at random."""

    __slots__ = ()

    def __new__(cls, value: float) -> Exact:
        return super().__new__(cls, (value,))
