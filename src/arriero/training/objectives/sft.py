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


PASS_TOKENS = 128
"""What one more micro-batch costs besides its tokens, in tokens: passes over all weights and their gradients."""


def least_padding(lengths: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Where to cut rows of rising lengths into micro-batches of at most ``size``: (start, stop) of each.

    The cuts with the lowest sum of padded tokens and PASS_TOKENS a micro-batch, by dynamic programming.
    """
    best, cut = [0.0], [0]
    for stop, longest in enumerate(lengths, 1):
        padded = math.ceil(longest / LENGTH_STEP) * LENGTH_STEP
        starts = range(max(0, stop - size), stop)
        cost, start = min((best[start] + (stop - start) * padded + PASS_TOKENS, start) for start in starts)
        best.append(cost)
        cut.append(start)
    found, stop = [], len(lengths)
    while stop:
        found.append((cut[stop], stop))
        stop = cut[stop]
    return found[::-1]


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

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """Rows of like length together, in as many micro-batches as leave the least to work out, padding included."""
        ordered = sorted(indices, key=self.length)
        return [ordered[start:stop] for start, stop in least_padding([self.length(i) for i in ordered], size)]

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = [self._rows[i] for i in indices]
        ids, scored = pad_rows(rows, self._longest)
        positions, targets = scored_positions(ids, scored)
        return Batch(
            ids=torch.from_numpy(ids), positions=torch.from_numpy(positions), targets=torch.from_numpy(targets),
            scored=int(scored[:, 1:].sum()),
            segments=None, tokens=sum(len(row.ids) for row in rows),
        )  # fmt: skip
