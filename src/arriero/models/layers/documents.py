"""Rows packed with documents, attended document by document: nothing is worked out that a mask would throw away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_TOKENS = 32
"""Documents of fewer tokens in the mean are attended under a mask: the calls would take longer than the work."""


@dataclass(frozen=True)
class Documents:
    """Lengths of the documents of all rows [B, T], one after the other; none runs on from a row into the next."""

    lengths: tuple[int, ...]

    @classmethod
    def of(cls, segments: Tensor) -> Documents | None:
        """From document numbers int64 [B, T]; None where a mask is better or, as a number comes back later in its row,
        needed."""
        lengths = run_lengths(segments)
        if len(lengths) * LEAST_TOKENS > segments.numel() or len(lengths) > _distinct(segments):
            return None
        return cls(tuple(lengths))


def run_lengths(segments: Tensor) -> list[int]:
    """Lengths of the stretches of equal numbers in segments [B, T], row after row."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = begins.flatten().nonzero().flatten().tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], segments.numel()], strict=True)]


def _distinct(segments: Tensor) -> int:
    ordered = segments.sort(dim=1).values
    return len(segments) + int((ordered[:, 1:] != ordered[:, :-1]).sum())
