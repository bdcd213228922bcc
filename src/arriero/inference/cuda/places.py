"""Where the rows of a step lie in the pool, as the kernels are told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arriero.inference.kv_pool import blocks_of
from arriero.inference.rows import Rows

_LEAST_PART, _MOST_PARTS = 4, 64


@dataclass(frozen=True)
class Places:
    """Where rows lie in the pool, all int32 on the pool's device.

    Attributes:
        tables: [S, W], the blocks of each sequence; what is beyond a sequence's own is never read.
        owners: [M], which of the sequences a row belongs to.
        lengths: [M], tokens that a row sees, itself the last of them; 0: no row at all, nothing is stored for it and
            its attention is 0.
        part: blocks that one program reads, the same in all steps of a model; see :func:`part_of`.
    """

    tables: Tensor
    owners: Tensor
    lengths: Tensor
    part: int = _LEAST_PART


def part_of(context_length: int) -> int:
    """Blocks that one program reads: 4, and more where a whole context would be over 64 parts."""
    blocks = -(-blocks_of(context_length) // _MOST_PARTS)
    return max(_LEAST_PART, 1 << (blocks - 1).bit_length())


def places_of(rows: Rows, device: str, part: int) -> Places:
    """Where the rows of a step lie, each of which sees itself and what is before it."""
    width = max(blocks_of(s.stored + s.count) for s in rows.spans)
    tables = torch.zeros(len(rows.spans), width, dtype=torch.int32)
    owners, lengths = torch.empty(2, len(rows), dtype=torch.int32)
    for number, span in enumerate(rows.spans):
        blocks = span.blocks[: blocks_of(span.stored + span.count)]
        tables[number, : len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
        own = slice(span.first, span.first + span.count)
        owners[own] = number
        lengths[own] = torch.arange(span.stored + 1, span.stored + span.count + 1, dtype=torch.int32)
    return Places(tables.to(device), owners.to(device), lengths.to(device), part)


def selected(places: Places, index: Tensor) -> Places:
    """The places of some of the rows."""
    return replace(places, owners=places.owners[index], lengths=places.lengths[index])
