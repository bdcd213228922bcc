"""Bootstrap intervals: how far a figure would move had other held-out items been drawn.

The percentile method of Efron (1979): items are drawn with replacement as often as there are items, the figure
is worked out anew, and its middle ``confidence`` share over all draws is the interval. Items are what was
sampled independently (documents, conversations, pairs), never single tokens, which hang together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError

Values = Sequence[float] | NDArray[np.floating] | NDArray[np.integer]
_DRAWS_AT_ONCE = 1 << 21
"""Item numbers held in memory at a time: 16 MiB."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made. The same seed draws the same items, whatever they are."""

    samples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A figure, its interval, and the number of items behind it. One item alone gives no interval."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Values, how: Resampling) -> Interval:
    """Interval of the mean of ``values`` [n]."""
    return ratio_interval(values, np.ones(len(values)), how)


def ratio_interval(numerators: Values, denominators: Values, how: Resampling) -> Interval:
    """Interval of ``sum(numerators) / sum(denominators)`` over items, e.g. bits over bytes of documents.

    Raises:
        ArrieroError: there is no item, or the denominators add up to nothing.
    """
    top, bottom = _items(numerators, denominators)
    draws = np.concatenate([_ratios(top, bottom, drawn) for drawn in _drawn(len(top), how)])
    return Interval(float(top.sum() / bottom.sum()), *_middle(draws, len(top), how), len(top))


def ratio_difference_interval(
    a: tuple[Values, Values], b: tuple[Values, Values], how: Resampling
) -> Interval:
    """Interval of the ratio of ``a`` minus that of ``b``, each (numerators, denominators) of the *same* items.

    Both sides are drawn together, so what makes an item hard for both does not widen the interval.

    Raises:
        ArrieroError: the two sides have different numbers of items, or there is none.
    """
    (top_a, bottom_a), (top_b, bottom_b) = _items(*a), _items(*b)
    if len(top_a) != len(top_b):
        raise ArrieroError(
            f"a paired difference needs the same items: {len(top_a)} and {len(top_b)} were given"
        )
    draws = np.concatenate(
        [_ratios(top_a, bottom_a, d) - _ratios(top_b, bottom_b, d) for d in _drawn(len(top_a), how)]
    )
    value = float(top_a.sum() / bottom_a.sum() - top_b.sum() / bottom_b.sum())
    return Interval(value, *_middle(draws, len(top_a), how), len(top_a))


def mean_difference_interval(a: Values, b: Values, how: Resampling) -> Interval:
    """Interval of ``mean(a) - mean(b)`` over the same items."""
    return ratio_difference_interval((a, np.ones(len(a))), (b, np.ones(len(b))), how)


def _items(numerators: Values, denominators: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if len(top) != len(bottom):
        raise ArrieroError(f"a ratio needs as many numerators as denominators: {len(top)} and {len(bottom)}")
    if not len(top) or not bottom.sum() > 0:
        raise ArrieroError("there is no held-out item to take a figure from")
    return top, bottom


def _drawn(n: int, how: Resampling) -> Iterator[NDArray[np.int64]]:
    """Item numbers [k, n] of all draws, some draws at a time; the seed alone decides, not the chunk size."""
    rng = np.random.default_rng(how.seed)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, how.samples, at_once):
        yield rng.integers(0, n, size=(min(at_once, how.samples - start), n))


def _ratios(
    top: NDArray[np.float64], bottom: NDArray[np.float64], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    below = bottom[drawn].sum(axis=1)
    # a draw of items without any weight (all denominators 0) says nothing
    return np.divide(top[drawn].sum(axis=1), below, out=np.full(len(drawn), np.nan), where=below > 0)


def _middle(draws: NDArray[np.float64], n: int, how: Resampling) -> tuple[float | None, float | None]:
    draws = draws[~np.isnan(draws)]
    if n < 2 or not len(draws):
        return None, None
    tail = (1 - how.confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)
