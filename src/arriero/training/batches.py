"""The order of the data: a pure function of the seed, the epoch and the global sample position.

Nothing about the order is ever stored but one number, the position; so a resumed run, and a run split over
more workers, sees exactly the samples that an uninterrupted one sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """Order of the samples 0..n-1 in one epoch, int64 of shape [n].

    Sorts the raw 64-bit stream of Philox4x64-10 (Salmon et al. 2011) keyed by (seed, epoch): numpy guarantees
    that stream over its versions, which it does not for ``Generator.permutation``.
    """
    keys = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(n)
    return np.argsort(keys, kind="stable")


class Order(Protocol):
    """Endless sequence of sample indices."""

    def take(self, start: int, stop: int) -> list[int]:
        """Sample indices at the global positions ``start`` to ``stop`` (exclusive)."""


class SampleOrder:
    """Endless sequence of sample indices, epoch after epoch, each epoch in its own order.

    Args:
        numbered: give epoch * n_samples + index in place of the index, for objectives whose samples are drawn anew.
    """

    def __init__(self, n_samples: int, seed: int, *, numbered: bool = False) -> None:
        self.n_samples = n_samples
        self._numbered = numbered
        self._seed = seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def take(self, start: int, stop: int) -> list[int]:
        """Sample indices at the global positions ``start`` to ``stop`` (exclusive)."""
        found: list[int] = []
        while start < stop:
            epoch, first = divmod(start, self.n_samples)
            last = min(self.n_samples, first + stop - start)
            before = epoch * self.n_samples if self._numbered else 0
            found += (self._of(epoch)[first:last] + before).tolist()
            start += last - first
        return found

    def _of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(self.n_samples, self._seed, epoch)
        return self._order


class SequentialOrder:
    """The samples in their own order, again and again: what a run that carries a state over them needs."""

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples

    def take(self, start: int, stop: int) -> list[int]:
        """Sample indices at the global positions ``start`` to ``stop`` (exclusive)."""
        return [position % self.n_samples for position in range(start, stop)]


def micro_batches(indices: Sequence[int], size: int, length: Callable[[int], int]) -> list[list[int]]:
    """Cut the samples of one optimizer step into parts of at most ``size``.

    Samples of like length go together, which saves padding; the gradient of the step does not depend on the
    grouping, because its loss is divided by the weight of the whole step.
    """
    ordered = sorted(indices, key=length)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
