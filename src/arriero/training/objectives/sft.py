"""Supervised fine-tuning: the next token, scored only where the assistant speaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from arriero.training.objectives.base import Batch, scored_positions
from arriero.training.objectives.next_token import NextToken


@dataclass(frozen=True)
class Row:
    """One rendered conversation: ``mask`` is True at the tokens that the model is to produce itself.

    Those are the assistant's words and its end-of-turn token, not the header before them.
    """

    ids: np.ndarray
    mask: np.ndarray


LENGTH_STEP = 32
"""Rows are padded to a multiple of it. Kernels are made for each new shape and kept: with every length of its own
a run over short conversations took 1.4 GB and not 0.6 GB, and longer."""


def pad_rows(rows: Sequence[Row], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids int64 [B, T], scored bool [B, T]), padded on the right with token 0, which is never scored or seen.

    T is a multiple of LENGTH_STEP, but at most ``limit``, the length of the longest row there is.
    """
    longest = min(limit, math.ceil(max(len(row.ids) for row in rows) / LENGTH_STEP) * LENGTH_STEP)
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    scored = np.zeros((len(rows), longest), dtype=bool)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        scored[i, : len(row.ids)] = row.mask
    return ids, scored


class SftObjective(NextToken):
    """Mean cross-entropy over the supervised tokens of padded rows (not over rows: long answers weigh more)."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._longest = max((len(row.ids) for row in rows), default=0)

    def __len__(self) -> int:
        return len(self._rows)

    def tokens_per_sample(self) -> float:
        return sum(len(row.ids) for row in self._rows) / max(1, len(self._rows))

    def length(self, index: int) -> int:
        return len(self._rows[index].ids)

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = [self._rows[i] for i in indices]
        ids, scored = pad_rows(rows, self._longest)
        positions, targets = scored_positions(ids, scored)
        return Batch(
            ids=torch.from_numpy(ids), positions=torch.from_numpy(positions), targets=torch.from_numpy(targets),
            scored=int(scored[:, 1:].sum()),
            segments=None, tokens=sum(len(row.ids) for row in rows),
        )  # fmt: skip
