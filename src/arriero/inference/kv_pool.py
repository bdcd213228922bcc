"""Keys and values of all sequences: one pool, owned block by block, with counted references."""

from __future__ import annotations

import heapq
import math
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arriero.errors import ArrieroError

BLOCK = 64
"""Tokens of a block."""

INT8_MAX = 127
"""Largest code of an int8 pool; -128 is not used."""


def blocks_of(tokens: int) -> int:
    """Blocks that hold ``tokens`` tokens."""
    return -(-tokens // BLOCK)


@dataclass(frozen=True)
class CacheShape:
    """What a token needs: layers, key-value heads, width of a head, and the element type (fp32, bf16, fp16, int8)."""

    n_layers: int
    n_kv_heads: int
    head_dim: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, in bytes; an int8 pool's scales included."""
        scale = 4 if self.dtype == torch.int8 else 0
        return 2 * self.n_layers * self.n_kv_heads * (self.head_dim * self.dtype.itemsize + scale)


class KVPool:
    """Owner of all keys and values.

    A block is free or has owners, each of which counts as one reference: sequences, and the prefix cache. Blocks are
    given out in runs that lie side by side as far as there are any, because those are read without a copy.

    An int8 pool keeps for each token and head the scale ``amax / 127`` and codes rounded half to even, so that a stored
    number is off by at most ``amax / 254``, half a scale.

    Args:
        max_tokens: token places, rounded up to whole blocks.

    Attributes:
        keys, values: ``[n_layers, n_blocks, n_kv_heads, BLOCK, head_dim]``.
        key_scales, value_scales: float32 ``[n_layers, n_blocks, n_kv_heads, BLOCK]`` of an int8 pool, else None.
    """

    def __init__(self, shape: CacheShape, max_tokens: int) -> None:
        self.shape = shape
        self.n_blocks = blocks_of(max_tokens)
        places = (shape.n_layers, self.n_blocks, shape.n_kv_heads, BLOCK)
        self.keys = _empty((*places, shape.head_dim), shape.dtype, shape.device)
        self.values = _empty((*places, shape.head_dim), shape.dtype, shape.device)
        int8 = shape.dtype == torch.int8
        self.key_scales = _empty(places, torch.float32, shape.device) if int8 else None
        self.value_scales = _empty(places, torch.float32, shape.device) if int8 else None
        self._references = [0] * self.n_blocks
        self._free = list(range(self.n_blocks))  # a heap: low numbers first, so that memory is touched late
        self._in_heap = [True] * self.n_blocks
        self._is_free = [True] * self.n_blocks
        self._written = [False] * self.n_blocks
        self._n_free = self.n_blocks

    @property
    def max_tokens(self) -> int:
        """Token places of the whole pool."""
        return self.n_blocks * BLOCK

    @property
    def free(self) -> int:
        """Blocks without an owner."""
        return self._n_free

    @property
    def used(self) -> int:
        """Blocks with an owner."""
        return self.n_blocks - self._n_free

    @property
    def bytes(self) -> int:
        """Memory of the whole pool, in bytes."""
        return self.max_tokens * self.shape.bytes_per_token

    def references(self, block: int) -> int:
        """How many owners a block has."""
        return self._references[block]

    # ------------------------------------------------------------ ownership

    def allocate(self, count: int, after: int | None = None) -> list[int] | None:
        """``count`` blocks with one reference each, or None (and nothing taken) where fewer are free.

        Args:
            after: the sequence's last block; the ones behind it are taken where they are free.
        """
        if count > self._n_free:
            return None
        start = None if after is None else after + 1
        if start is None or not self._run_free(start, min(count, 1)):
            start = self._find_run(count) if count > 1 else None
        taken: list[int] = []
        while start is not None and len(taken) < count and self._run_free(start, 1):
            taken.append(self._take(start))
            start += 1
        while len(taken) < count:
            block = heapq.heappop(self._free)
            self._in_heap[block] = False
            if self._is_free[
                block
            ]:  # numbers that were taken as part of a run stay in the heap till they surface
                taken.append(self._take(block))
        return taken

    def share(self, blocks: Iterable[int]) -> None:
        """One more owner for each of the blocks.

        Raises:
            ArrieroError: a block is free, which would be a bug here.
        """
        for block in blocks:
            if self._is_free[block]:
                raise ArrieroError(f"block {block} of the key-value pool has no owner to share it with")
            self._references[block] += 1

    def release(self, blocks: Iterable[int]) -> None:
        """One owner less for each of the blocks; without any they are free.

        Raises:
            ArrieroError: a block is free already, which would be a bug here.
        """
        for block in blocks:
            if self._is_free[block]:
                raise ArrieroError(f"block {block} of the key-value pool is freed twice")
            self._references[block] -= 1
            if not self._references[block]:
                self._is_free[block] = True
                self._n_free += 1
                if not self._in_heap[block]:
                    self._in_heap[block] = True
                    heapq.heappush(self._free, block)

    def copy(self, source: int, target: int) -> None:
        """Copy a block's keys and values, all layers."""
        for part in (self.keys, self.values, self.key_scales, self.value_scales):
            if part is not None:
                part[:, target] = part[:, source]

    def check(self, owners: Iterable[Sequence[int]]) -> None:
        """Compare the counts with those who say that they own blocks: each a list of blocks.

        Raises:
            ArrieroError: a block has leaked, or is owned without being counted.
        """
        counted = [0] * self.n_blocks
        for blocks in owners:
            for block in blocks:
                counted[block] += 1
        for block, (have, expected) in enumerate(zip(self._references, counted, strict=True)):
            if have != expected or self._is_free[block] != (expected == 0):
                raise ArrieroError(
                    f"block {block} of the key-value pool counts {have} owners, there are {expected}: "
                    "this is a bug of the engine"
                )
        if self._n_free != sum(self._is_free):
            raise ArrieroError("the key-value pool miscounts its free blocks: this is a bug of the engine")

    def _run_free(self, start: int, count: int) -> bool:
        return start + count <= self.n_blocks and all(self._is_free[start : start + count])

    def _take(self, block: int) -> int:
        if self._written[block]:
            for part in (self.keys, self.values, self.key_scales, self.value_scales):
                if part is not None:
                    part[:, block] = 0  # what a failed request left may be NaN, which no mask of scores hides
        self._written[block] = True
        self._is_free[block] = False
        self._references[block] = 1
        self._n_free -= 1
        return block

    def _find_run(self, count: int) -> int | None:
        """The first run of ``count`` (two or more) free blocks side by side."""
        length = 0
        for block, free in enumerate(self._is_free):
            length = length + 1 if free else 0
            if length == count:
                return block - count + 1
        return None


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes and float32 scales of x ``[..., head_dim]``: one scale for each vector, codes half to even."""
    x = x.float()
    scale = x.abs().amax(-1) / INT8_MAX
    codes = torch.round(x / scale.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1))
    return codes.clamp(-INT8_MAX, INT8_MAX).to(torch.int8), scale


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Zeros: they come from the system untouched, so memory is only used for the places that are written.

    ``torch.zeros`` writes every page, which took seconds for a large pool. NumPy asks for huge pages, of which a first
    answer takes one or two for each layer, though it writes little to them; reading was no faster with them.
    """
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    raw = torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)  # begins with a page, so it is aligned
    return raw[:size].view(dtype).view(shape)
