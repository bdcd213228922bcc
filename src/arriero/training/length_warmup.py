"""Shorter windows early in the run: cheaper steps, and steadier ones (Li et al., arXiv 2108.06084).

A window of T tokens is cut into T / length rows, so a step has the tokens it would have had, in the same order, and
every one of them is still scored; only what lies before the row's start is out of sight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from arriero.training.objectives.base import Batch

AnyBatch = TypeVar("AnyBatch", bound=Batch)


@dataclass(frozen=True)
class LengthWarmup:
    """Lengths ``start``, 2 ``start``, ... ``full``, each but the last for an equal part of the first ``share`` of a run.

    Raises:
        ValueError: ``full`` is not ``start`` doubled a whole number of times, once at least.
    """

    start: int
    full: int
    share: float

    def __post_init__(self) -> None:
        if self.start < 2 or self.start << self.doublings != self.full or not self.doublings:
            raise ValueError(
                f"length_start {self.start} should be the window of {self.full} tokens halved once or more"
            )

    @property
    def doublings(self) -> int:
        """From the first length to the last."""
        return max(0, round(math.log2(self.full / self.start)))

    def length(self, done: float) -> int:
        """Tokens of a row when this share of the run is behind."""
        if done >= self.share:
            return self.full
        return self.start << int(self.doublings * done / self.share)


def cut_rows(batch: AnyBatch, length: int) -> AnyBatch:
    """The batch with rows of ``length`` tokens in place of longer ones, a multiple of it; scored positions stay.

    The flat order b * T + t of a row-major batch is the same before and after, so ``positions`` and ``targets`` hold.
    """
    if batch.ids.shape[1] <= length:
        return batch
    segments = None if batch.segments is None else batch.segments.reshape(-1, length)
    return replace(batch, ids=batch.ids.reshape(-1, length), segments=segments)
