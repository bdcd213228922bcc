"""Rows packed with documents, attended document by document: nothing is worked out that a mask would throw away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arriero.models.layers.known import values_known
from arriero.models.layers.masks import segment_positions

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


@dataclass(frozen=True)
class FirstKeys:
    """Where each token's document begins in its row: int32 [B, T]. A token sees all from there to itself."""

    first: Tensor

    @classmethod
    def of(cls, segments: Tensor) -> FirstKeys | None:
        """From document numbers int64 [B, T]; None where a number comes back later in its row (a plan, which knows no
        values, takes it that none does)."""
        if values_known(segments) and int(_begins(segments).sum()) > _distinct(segments):
            return None
        index = torch.arange(segments.shape[1], device=segments.device)
        return cls((index - segment_positions(segments)).to(torch.int32))

    def mask(self, dtype: torch.dtype) -> Tensor:
        """The same as an additive mask [B, 1, T, T], for attention that wants one."""
        index = torch.arange(self.first.shape[1], device=self.first.device)
        hidden = (index < self.first.unsqueeze(2)) | (index > index.unsqueeze(1))
        return (
            torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            .masked_fill_(hidden, -torch.inf)
            .unsqueeze(1)
        )


def run_lengths(segments: Tensor) -> list[int]:
    """Lengths of the stretches of equal numbers in segments [B, T], row after row."""
    starts = _begins(segments).flatten().nonzero().flatten().tolist()
    return [stop - start for start, stop in zip(starts, [*starts[1:], segments.numel()], strict=True)]


def _begins(segments: Tensor) -> Tensor:
    """bool [B, T]: true where a number differs from the one before it in its row."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return begins


def _distinct(segments: Tensor) -> int:
    ordered = segments.sort(dim=1).values
    return len(segments) + int((ordered[:, 1:] != ordered[:, :-1]).sum())
