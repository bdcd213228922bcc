"""Supervised fine-tuning: the next token, scored only where the assistant speaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from arriero.training.objectives.base import Batch, scored_positions
from arriero.training.objectives.next_token import NextToken
from arriero.training.objectives.packing import LENGTH_STEP, PackedBatch, area, even_parts, padded_to, smaller


@dataclass(frozen=True)
class Row:
    """One rendered conversation: ``mask`` is True at the tokens that the model is to produce itself.

    Those are the assistant's words and its end-of-turn token, not the header before them.
    """

    ids: np.ndarray
    mask: np.ndarray


def pad_rows(rows: Sequence[Row], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids int64 [B, T], scored bool [B, T]), padded on the right with token 0, which is never scored or seen.

    T is a multiple of LENGTH_STEP, but at most ``limit``, the length of the longest row there is.
    """
    longest = padded_to(max(len(row.ids) for row in rows), limit)
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


def pack_rows(
    rows: Sequence[Row], packed: Sequence[Sequence[int]], longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids int64 [B, T], scored bool [B, T], segments int64 [B, T]) of rows laid end to end in ``packed`` ones.

    A conversation's first token is never scored, as nothing before it is its own; padding is of segment -1.
    """
    ids = np.zeros((len(packed), longest), dtype=np.int64)
    scored = np.zeros((len(packed), longest), dtype=bool)
    segments = np.full((len(packed), longest), -1, dtype=np.int64)
    for number, together in enumerate(packed):
        start = 0
        for place, row in enumerate(rows[index] for index in together):
            stop = start + len(row.ids)
            ids[number, start:stop] = row.ids
            scored[number, start + 1 : stop] = row.mask[1:]
            segments[number, start:stop] = place
            start = stop
    return ids, scored, segments


class SftObjective(NextToken):
    """Mean cross-entropy over the supervised tokens (not over rows: long answers weigh more).

    Conversations of a micro-batch are padded to the longest, or packed into rows of several where that leaves fewer
    tokens to work out. Attention and positions never cross from one to another, so the loss is the same.

    Args:
        rows: the conversations.
        room: most tokens of a packed row; 0: none are packed.
    """

    def __init__(self, rows: Sequence[Row], *, room: int = 0) -> None:
        self._rows = rows
        self._longest = max((len(row.ids) for row in rows), default=0)
        self._room = max(room, self._longest) if room else 0

    def __len__(self) -> int:
        return len(self._rows)

    def tokens_per_sample(self) -> float:
        return sum(len(row.ids) for row in self._rows) / max(1, len(self._rows))

    def length(self, index: int) -> int:
        return len(self._rows[index].ids)

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """Micro-batches that leave the least to work out, padding included: of rows of like length, or packed ones of
        about equally many tokens."""
        ordered = sorted(indices, key=self.length)
        lengths = [self.length(i) for i in ordered]
        padded = [ordered[start:stop] for start, stop in least_padding(lengths, size)]
        if not self._room:
            return padded
        return min(padded, even_parts(ordered, lengths, size), key=self._work)

    def _work(self, parts: Sequence[Sequence[int]]) -> int:
        """Tokens to work out, padding included, and what each micro-batch costs besides."""
        total = 0
        for part in parts:
            lengths = [self.length(i) for i in part]
            rows = smaller(lengths, self._room, self._longest)
            alone = len(part) * padded_to(max(lengths), self._longest)
            total += PASS_TOKENS + (alone if rows is None else area(rows, lengths, self._room))
        return total

    def batch(self, indices: Sequence[int]) -> Batch:
        rows = [self._rows[i] for i in indices]
        lengths = [len(row.ids) for row in rows]
        packed, tokens = smaller(lengths, self._room, self._longest), sum(lengths)
        if packed is None:
            return Batch(**_tensors(*pad_rows(rows, self._longest)), segments=None, tokens=tokens)
        longest = area(packed, lengths, self._room) // len(packed)
        ids, scored, segments = pack_rows(rows, packed, longest)
        return PackedBatch(**_tensors(ids, scored), segments=torch.from_numpy(segments), tokens=tokens)


def _tensors(ids: np.ndarray, scored: np.ndarray) -> dict[str, Any]:
    positions, targets = scored_positions(ids, scored)
    return {
        "ids": torch.from_numpy(ids), "positions": torch.from_numpy(positions), "targets": torch.from_numpy(targets),
        "scored": int(scored[:, 1:].sum()),
    }  # fmt: skip
