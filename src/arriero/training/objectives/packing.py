"""Rows of several documents each, so that little is padding; attention and positions begin anew with each document.

What is worked out for a row is in proportion to its length, padding included. Attention goes document by document
(``models.layers.documents``), so a packed row costs no more of it than its documents alone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from arriero.models.decoder import by_document
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.documents import LEAST_TOKENS, run_lengths
from arriero.training.objectives.base import Batch, Shape

LENGTH_STEP = 32
"""Rows are padded to a multiple of it. Kernels are made for each new shape and kept: with every length of its own
a run over short conversations took 1.4 GB and not 0.6 GB, and longer."""
_MORE_ROWS = 4
"""So many more rows than the tokens need are tried: one row more may be less to work out than a longer one."""


@dataclass(frozen=True)
class PackedBatch(Batch):
    """Rows of several documents each; ``segments`` numbers them, -1 is padding."""

    @property
    def shape(self) -> Shape:
        assert self.segments is not None
        return as_plain_rows(self.segments, self.targets.shape[0])


def as_plain_rows(segments: torch.Tensor, scored: int) -> Shape:
    """The shape of plain rows that are as much work: as many tokens, and as large a sum of squared document lengths."""
    tokens = segments.numel()
    rows = max(1, round(tokens**2 / sum(n * n for n in run_lengths(segments))))
    return Shape(rows, math.ceil(tokens / rows), scored)


def can_pack(config: DecoderConfig) -> bool:
    """Whether a model's attention goes document by document, with positions that begin anew, so that packing pays.

    Where a sliding window or ALiBi wants a mask, one over a packed row would cost the square of its length; dynamic
    rotary scaling goes by the length of what a pass sees.
    """
    scaling = config.rope_scaling
    dynamic = scaling is not None and scaling.kind == "dynamic"
    return by_document(config, config.context_length, torch.float32) and not dynamic


def padded_to(length: int, limit: int) -> int:
    """The next multiple of LENGTH_STEP, but at most ``limit``."""
    return min(limit, math.ceil(length / LENGTH_STEP) * LENGTH_STEP)


def pack(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Rows of at most ``room`` tokens, as the indices of the documents in each, in rising order.

    Of the ways tried the one with the fewest tokens, padding included; a pure function of the lengths. Into a given
    number of rows the longest document left goes to the shortest row (LPT, Graham 1969).

    Args:
        lengths: none above ``room``, at least one.
    """
    falling = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    least = math.ceil(sum(lengths) / room)
    best = _first_fit(falling, lengths, room)
    fewest = area(best, lengths, room)
    for count in range(least, min(len(lengths), least + _MORE_ROWS) + 1):
        rows = balanced(falling, lengths, count)
        if max(sum(lengths[i] for i in row) for row in rows) <= room and area(rows, lengths, room) < fewest:
            best, fewest = rows, area(rows, lengths, room)
    return [sorted(row) for row in best]


def area(rows: Sequence[Sequence[int]], lengths: Sequence[int], room: int) -> int:
    """Tokens of the rows when all are padded to the longest."""
    return len(rows) * padded_to(max(sum(lengths[i] for i in row) for row in rows), room)


def smaller(lengths: Sequence[int], room: int, longest: int) -> list[list[int]] | None:
    """Rows that hold the documents in fewer tokens than a row each has, padded to the longest; None: there are none.

    Args:
        longest: most tokens that a row of one document is padded to.
    """
    if not room or len(lengths) < 2:
        return None
    rows = pack(lengths, room)
    if sum(lengths) < LEAST_TOKENS * (
        len(lengths) + len(rows)
    ):  # attention would need a mask over whole rows
        return None
    padded = len(lengths) * padded_to(max(lengths), longest)
    return rows if area(rows, lengths, room) < padded else None


def even_parts(indices: Sequence[int], lengths: Sequence[int], size: int) -> list[list[int]]:
    """As few micro-batches of at most ``size`` as there can be, of about equally many tokens."""
    falling = sorted(range(len(indices)), key=lambda i: -lengths[i])
    groups = balanced(falling, lengths, math.ceil(len(indices) / size), size)
    return [sorted(indices[i] for i in group) for group in groups]


def balanced(falling: Sequence[int], lengths: Sequence[int], count: int, most: int = 0) -> list[list[int]]:
    """``count`` groups of about as many tokens each, of documents in falling order of length; ``most``: documents in
    one at most, 0: any number."""
    groups: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for index in falling:
        tokens, number = heapq.heappop(heap)
        groups[number].append(index)
        if not most or len(groups[number]) < most:
            heapq.heappush(heap, (tokens + lengths[index], number))
    return [group for group in groups if group]


def _first_fit(falling: Sequence[int], lengths: Sequence[int], room: int) -> list[list[int]]:
    rows: list[list[int]] = []
    left: list[int] = []
    for index in falling:
        number = next((n for n, free in enumerate(left) if lengths[index] <= free), len(rows))
        if number == len(rows):
            rows.append([])
            left.append(room)
        rows[number].append(index)
        left[number] -= lengths[index]
    return rows
