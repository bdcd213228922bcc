"""Causal language modelling on packed windows of documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from arriero.training.batches import Order
from arriero.training.length_warmup import LengthWarmup, cut_rows
from arriero.training.objectives.base import UNSCORED, Batch
from arriero.training.objectives.next_token import NextToken


class Windows(Protocol):
    """Consecutive windows of a packed token stream (data.shards.PackedWindows)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]: ...


@runtime_checkable
class OrderedWindows(Protocol):
    """Windows that know the order in which training is to see them (data.mixed_windows.MixedWindows)."""

    def order(self, seed: int) -> Order: ...


class PlannedWindows:
    """Windows that are known by their number alone, full of zeros; what a plan is made with."""

    def __init__(self, count: int, context_length: int) -> None:
        self._count = count
        self._span = context_length + 1

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        zeros = np.zeros((len(indices), self._span), dtype=np.int64)
        return zeros, zeros


class CausalObjective(NextToken):
    """Predict every token from those before it in its window.

    Several documents share a window. A document's first token (BOS) is never scored: nothing that comes before
    can tell it. Positions run on through the window; with rotary embeddings only distances matter, so that
    restarting them at each document would change nothing.

    Args:
        windows: gives (ids int64 [B, T + 1], document numbers int64 [B, T + 1]) of B windows.
        context_length: T.
        document_mask: attention stays inside a document. Without it a token may also look at the documents before
            its own in the window, as GPT-3 was trained (Brown et al. 2020); Llama 3 was trained with it.
        warmup: shorter rows early in the run; None: whole windows throughout.
    """

    def __init__(
        self,
        windows: Windows,
        context_length: int,
        document_mask: bool,
        warmup: LengthWarmup | None = None,
    ) -> None:
        self._windows = windows
        self._context_length = context_length
        self._document_mask = document_mask
        self._warmup = warmup

    def __len__(self) -> int:
        return len(self._windows)

    def tokens_per_sample(self) -> float:
        return float(self._context_length)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Windows as rows: inputs [B, T], scored against the token that follows."""
        return self._rows(*self._windows.batch(indices))

    def order(self, seed: int) -> Order:
        """That of a mixture, where the windows are one; else a random one."""
        return self._windows.order(seed) if isinstance(self._windows, OrderedWindows) else super().order(seed)

    @property
    def grows(self) -> bool:
        return self._warmup is not None

    def shaped(self, batch: Batch, done: float) -> Batch:
        """Windows cut into rows of the length that this share of the run has."""
        return batch if self._warmup is None else cut_rows(batch, self._warmup.length(done))

    def _rows(self, ids: np.ndarray, segments: np.ndarray) -> Batch:
        # every position goes through the head, scored or not: shapes that never change let the allocator give each
        # step the blocks of the step before, and a document's first token is rare
        targets = np.where(
            (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0), ids[:, 1:], UNSCORED
        )
        inputs, documents = (np.ascontiguousarray(a[:, :-1], dtype=np.int64) for a in (ids, segments))
        return Batch(
            ids=torch.from_numpy(inputs), positions=None, targets=torch.from_numpy(targets.reshape(-1)),
            scored=int((targets != UNSCORED).sum()),
            segments=torch.from_numpy(documents) if self._document_mask else None, tokens=inputs.size,
        )  # fmt: skip
