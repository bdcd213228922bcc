"""Attention of single rows over the blocks of the pool, and storing into it: kernels in Triton.

A row's blocks are read where they lie. They are cut into parts of some blocks, each done by a program of its own, and the
parts are put together by their greatest scores (Dao et al., Flash-Decoding, 2023). The cut depends neither on the other rows
nor on how wide the table is, so neither do the bits of a row's attention.

Under ``TRITON_INTERPRET=1`` the same code runs on a processor, for tests.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from arriero.inference.cuda.places import Places
from arriero.inference.kv_pool import BLOCK, KVPool

_LEAST_TILE = 16
"""Least side of a tile of ``tl.dot``."""


@triton.jit
def _row_block(tables, owners, row, order, width):  # type: ignore[no-untyped-def]
    """The block of the pool that is number ``order`` of a row's sequence."""
    owner = tl.load(owners + row)
    return tl.load(tables + owner * width + order).to(tl.int64)


@triton.jit
def _store_one(  # type: ignore[no-untyped-def]
    new, stored, scales, row, head, at, row_stride, head_stride,
    WIDTH: tl.constexpr, TILE: tl.constexpr, INT8: tl.constexpr,
):  # fmt: skip
    """Write one vector [WIDTH] of a row to the place ``at`` of the pool."""
    dims = tl.arange(0, TILE)
    inside = dims < WIDTH
    x = tl.load(new + row * row_stride + head * head_stride + dims, mask=inside, other=0.0)
    if INT8:
        x = x.to(tl.float32)
        scale = tl.math.div_rn(tl.max(tl.abs(x), 0), 127.0)
        x = tl.math.div_rn(x, tl.maximum(scale, 1.1754943508222875e-38))
        x = (x + 12582912.0) - 12582912.0  # 1.5 * 2^23: rounds to the nearest whole number, half to even
        tl.store(scales + at, scale)
    tl.store(stored + at * WIDTH + dims, x.to(stored.dtype.element_ty), mask=inside)


@triton.jit
def _store_rows(  # type: ignore[no-untyped-def]
    k, v, keys, values, key_scales, value_scales, tables, owners, lengths, width,
    k_row, k_head, v_row, v_head, n_kv_heads,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, INT8: tl.constexpr,
):  # fmt: skip
    """A program for each row and head: its key and its value."""
    row, head = tl.program_id(0), tl.program_id(1)
    place = tl.load(lengths + row) - 1
    if place >= 0:
        block = _row_block(tables, owners, row, place // BLOCK, width)
        at = (block * n_kv_heads + head) * BLOCK + place % BLOCK
        _store_one(k, keys, key_scales, row, head, at, k_row, k_head, WIDTH, TILE, INT8)
        _store_one(v, values, value_scales, row, head, at, v_row, v_head, WIDTH, TILE, INT8)


@triton.jit
def _seen_blocks(length, window, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """First token that the row sees, and its first and last (exclusive) block."""
    first = tl.where(window > 0, tl.maximum(length - window, 0), 0)
    return first, first // BLOCK, (length + BLOCK - 1) // BLOCK


@triton.jit
def _attend_part(  # type: ignore[no-untyped-def]
    q, keys, values, key_scales, value_scales, slopes, tables, owners, lengths, sums, peaks, totals,
    width, q_row, q_head, n_kv_heads, n_heads, window, scale,
    BLOCK: tl.constexpr, PART: tl.constexpr, GROUP: tl.constexpr, GROUP_TILE: tl.constexpr,
    WIDTH: tl.constexpr, TILE: tl.constexpr, INT8: tl.constexpr, SLOPES: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """A program for each row, key head and part: all query heads of the key head over the part's blocks."""
    row, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(lengths + row)
    first, start, stop = _seen_blocks(length, window, BLOCK)
    start, stop = tl.maximum(start, part * PART), tl.minimum(stop, (part + 1) * PART)
    if start < stop:
        heads, dims, tokens = tl.arange(0, GROUP_TILE), tl.arange(0, TILE), tl.arange(0, BLOCK)
        here, inside = heads < GROUP, dims < WIDTH
        head = kv_head * GROUP + heads
        asked = tl.load(
            q + row * q_row + head[:, None] * q_head + dims[None, :],
            mask=here[:, None] & inside[None, :], other=0.0,
        ).to(PRODUCTS)  # fmt: skip
        if SLOPES:
            slope = tl.load(slopes + head, mask=here, other=0.0).to(tl.float32)
        peak = tl.full([GROUP_TILE], float("-inf"), tl.float32)
        total = tl.zeros([GROUP_TILE], tl.float32)
        summed = tl.zeros([GROUP_TILE, TILE], tl.float32)
        for order in range(start, stop):
            block = _row_block(tables, owners, row, order, width)
            at = (block * n_kv_heads + kv_head) * BLOCK + tokens
            k = tl.load(keys + at[None, :] * WIDTH + dims[:, None], mask=inside[:, None], other=0.0)
            scores = tl.dot(asked, k.to(PRODUCTS), input_precision="ieee") * scale
            if INT8:
                scores = scores * tl.load(key_scales + at)[None, :]
            place = order * BLOCK + tokens
            if SLOPES:
                scores -= slope[:, None] * (length - 1 - place).to(tl.float32)[None, :]
            seen = (place >= first) & (place < length)
            scores = tl.where(seen[None, :], scores, float("-inf"))
            # each of these blocks has a token that is seen, so the peak is a number from the first on
            higher = tl.maximum(peak, tl.max(scores, 1))
            shrink, weights = tl.exp(peak - higher), tl.exp(scores - higher[:, None])
            total = total * shrink + tl.sum(weights, 1)
            if INT8:
                weights = weights * tl.load(value_scales + at)[None, :]
            v = tl.load(values + at[:, None] * WIDTH + dims[None, :], mask=inside[None, :], other=0.0)
            more = tl.dot(weights.to(PRODUCTS), v.to(PRODUCTS), input_precision="ieee")
            summed, peak = summed * shrink[:, None] + more, higher
        out = (part * tl.num_programs(0) + row).to(tl.int64) * n_heads + head
        tl.store(sums + out[:, None] * WIDTH + dims[None, :], summed, mask=here[:, None] & inside[None, :])
        tl.store(peaks + out, peak, mask=here)
        tl.store(totals + out, total, mask=here)


@triton.jit
def _join_parts(  # type: ignore[no-untyped-def]
    sums, peaks, totals, lengths, out, window,
    BLOCK: tl.constexpr, PART: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """A program for each row and query head: its parts, in order."""
    row, head = tl.program_id(0), tl.program_id(1)
    rows, n_heads = tl.num_programs(0), tl.num_programs(1)
    _, start, stop = _seen_blocks(tl.load(lengths + row), window, BLOCK)
    dims = tl.arange(0, TILE)
    inside = dims < WIDTH
    peak, total = float("-inf"), 0.0
    summed = tl.zeros([TILE], tl.float32)
    for part in range(start // PART, (stop + PART - 1) // PART):
        at = (part * rows + row).to(tl.int64) * n_heads + head
        own = tl.load(peaks + at)
        higher = tl.maximum(peak, own)
        shrink, grow = tl.exp(peak - higher), tl.exp(own - higher)
        total = total * shrink + tl.load(totals + at) * grow
        summed = summed * shrink + tl.load(sums + at * WIDTH + dims, mask=inside, other=0.0) * grow
        peak = higher
    result = summed / tl.where(total > 0, total, 1.0)
    tl.store(out + (row * n_heads + head) * WIDTH + dims, result.to(out.dtype.element_ty), mask=inside)


def store(pool: KVPool, layer: int, k: Tensor, v: Tensor, places: Places) -> None:
    """Write keys and values ``[M, Hkv, Dh]`` of rows into the pool: at the last place that each row sees."""
    k, v = _last_dense(k), _last_dense(v)
    grid = (len(places.lengths), k.shape[1])
    _store_rows[grid](
        k, v, pool.keys[layer], pool.values[layer], *_scales(pool, layer),
        places.tables, places.owners, places.lengths, places.tables.shape[1],
        k.stride(0), k.stride(1), v.stride(0), v.stride(1), k.shape[1],
        BLOCK=BLOCK, WIDTH=k.shape[2], TILE=_tile(k.shape[2]), INT8=pool.key_scales is not None, num_warps=1,
    )  # fmt: skip


def attend(
    pool: KVPool,
    layer: int,
    q: Tensor,
    places: Places,
    window: int | None = None,
    slopes: Tensor | None = None,
) -> Tensor:
    """Attention of rows ``q [M, H, Dh]`` over what each of them sees in the pool -> ``[M, H, Dh]``.

    Scores are scaled by Dh^-1/2. Products are those of q's element type, summed in float32.

    Args:
        window: a row sees itself and ``window - 1`` tokens before it. slopes: [H], ALiBi's.
    """
    q = _last_dense(q)
    (rows, n_heads, width), n_kv_heads = q.shape, pool.shape.n_kv_heads
    tile, group = _tile(width), n_heads // n_kv_heads
    parts = triton.cdiv(places.tables.shape[1], places.part)
    sums = torch.empty(parts, rows, n_heads, width, device=q.device, dtype=torch.float32)
    peaks, totals = torch.empty(2, parts, rows, n_heads, device=q.device, dtype=torch.float32)
    out = torch.empty(rows, n_heads, width, device=q.device, dtype=q.dtype)
    _attend_part[(rows, n_kv_heads, parts)](
        q, pool.keys[layer], pool.values[layer], *_scales(pool, layer), q if slopes is None else slopes,
        places.tables, places.owners, places.lengths, sums, peaks, totals,
        places.tables.shape[1], q.stride(0), q.stride(1), n_kv_heads, n_heads, window or 0, width**-0.5,
        BLOCK=BLOCK, PART=places.part, GROUP=group, GROUP_TILE=_tile(group), WIDTH=width, TILE=tile,
        INT8=pool.key_scales is not None, SLOPES=slopes is not None, PRODUCTS=product_type(q.dtype),
        **launch(tile, q.element_size()),
    )  # fmt: skip
    _join_parts[(rows, n_heads)](
        sums, peaks, totals, places.lengths, out, window or 0,
        BLOCK=BLOCK, PART=places.part, WIDTH=width, TILE=tile, num_warps=1,
    )  # fmt: skip
    return out


def launch(tile: int, element_size: int) -> dict[str, int]:
    """Warps and pipeline stages of a program that reads blocks of so wide heads: what fits into 99 KiB of shared memory."""
    return {"num_warps": 4, "num_stages": 2 if tile * element_size <= 256 else 1}


def product_type(dtype: torch.dtype) -> Any:
    """Element type of what ``tl.dot`` multiplies; Triton's interpreter has no such products of bfloat16."""
    if triton.knobs.runtime.interpret:
        return tl.float32
    return {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}.get(dtype, tl.float32)


def _tile(size: int) -> int:
    return max(_LEAST_TILE, int(triton.next_power_of_2(size)))


def _scales(pool: KVPool, layer: int) -> tuple[Any, Any]:
    """The scales of an int8 pool; of others something that is never read."""
    if pool.key_scales is None or pool.value_scales is None:
        return pool.keys[layer], pool.values[layer]
    return pool.key_scales[layer], pool.value_scales[layer]


def _last_dense(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
