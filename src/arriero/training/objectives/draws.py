"""Random numbers of one sample: a pure function of (seed, epoch, sample), so nothing of them is ever stored."""

from __future__ import annotations

import numpy as np

_STREAM = 1
"""Keeps these numbers apart from those of the samples' order (training.batches), which have the same key."""


class Draws:
    """The numbers that a sample draws, one after the other, from the raw 64-bit stream of Philox4x64-10
    (Salmon et al. 2011), which numpy keeps the same over its versions."""

    def __init__(self, seed: int, epoch: int, sample: int) -> None:
        self._bits = np.random.Philox(
            key=np.array([seed, sample], dtype=np.uint64),
            counter=np.array([0, epoch, _STREAM, 0], dtype=np.uint64),
        )

    def uniform(self, n: int) -> np.ndarray:
        """float64 [n] in [0, 1)."""
        return (self._bits.random_raw(n) >> np.uint64(11)) * 2.0**-53

    def below(self, n: int) -> int:
        """One integer from 0 to n - 1."""
        return int(self.uniform(1)[0] * n)

    def order(self, n: int) -> np.ndarray:
        """int64 [n]: the numbers 0 to n - 1 in a random order."""
        return np.argsort(self._bits.random_raw(n), kind="stable")
