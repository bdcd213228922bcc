"""Attention with its scores worked out whole, in bfloat16 on a processor, some queries and heads at a time.

Two batched products and a softmax, over as many scores as stay in a processor's caches. Queries of a causal attention
are taken a block at a time, with the keys up to the block's last: what lies beyond is never worked out. Nothing as wide
as the scores is kept: the backward pass, written out here, makes them again while they are in the cache.
Autograd under autocast would take the scores to float32 and back, and keep both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arriero.products import batched

_SCORE_BYTES = 1 << 21
"""Of one row's scores that are worked on at a time, unless one head alone has more."""
_BLOCK = 128
"""Queries of a causal attention that are taken at a time: fewer would spare more scores, and make products slower."""


def attend_explicit(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """Attention of q [B, H, T, Dh] over k, v [B, Hkv, S, Dh] -> [B, H, T, Dh], all of one dtype.

    Args:
        mask: additive, broadcastable to [B, H, T, S]; it may want a gradient.
        causal: token t sees none but keys 0 .. t; a mask must say so too.
        scale: of the scores, by default Dh^-1/2.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if torch.is_grad_enabled():
        result: Tensor = _Attention.apply(q, k, v, mask, causal, scale)
        return result
    with torch.autocast(q.device.type, enabled=False):
        return _forward((q * scale, k.contiguous(), v.contiguous()), _seen(mask, causal, q, k))


def causal_pairs(length: int) -> int:
    """Pairs of a query and a key that a causal attention over ``length`` tokens works out: at most length²."""
    return sum((stop - start) * stop for start, stop in _blocks(length))


def _blocks(length: int) -> Iterator[tuple[int, int]]:
    """Blocks of queries from the last, which sees all keys, to the first."""
    for start in reversed(range(0, length, _BLOCK)):
        yield start, min(length, start + _BLOCK)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        ctx.causal, ctx.scale = causal, scale
        with torch.autocast(q.device.type, enabled=False):
            parts = q * scale, k.contiguous(), v.contiguous()
            out = _forward(parts, _seen(mask, causal, q, k))
        ctx.save_for_backward(*parts, mask)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        seen = _seen(mask, ctx.causal, q, k)
        found = _empty_like(q), torch.empty_like(k), torch.empty_like(v)
        wide = torch.promote_types(q.dtype, torch.float32)
        of_mask = torch.zeros_like(seen.mask, dtype=wide) if ctx.needs_input_grad[3] else None
        for turn in _turns(q, k, seen.causal):
            errors = _backward(turn, (q, k, v), seen, gradient, found)
            if of_mask is not None:
                part = _of_turn(of_mask, turn)
                part += errors.to(wide).sum_to_size(part.shape)
        found[0].mul_(ctx.scale)
        if of_mask is not None:
            of_mask = of_mask.transpose(2, 3).reshape(mask.shape).to(mask.dtype)
        return *found, of_mask, None, None


@dataclass(frozen=True)
class _Seen:
    """Who sees whom: an additive mask [1 or B, 1 or Hkv, 1 or T, 1 or group, 1 or S], and whether scores of keys after
    their query are left out. Without a mask, a causal block's own triangle [block, 1, block] is added."""

    mask: Any
    causal: bool
    triangle: Tensor | None


def _seen(mask: Tensor | None, causal: bool, q: Tensor, k: Tensor) -> _Seen:
    length, keys = q.shape[2], k.shape[2]
    triangle = None
    if causal and mask is None:
        first = (min(length, _BLOCK),) * 2 if length == keys else (length, keys)
        triangle = torch.full(first, -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
        if length != keys:
            mask, triangle = triangle, None
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())]
        mask = mask.unsqueeze(2) if mask.shape[1] == 1 else mask.unflatten(1, (k.shape[1], -1))
        mask = mask.transpose(2, 3)
    return _Seen(mask, causal and length == keys, None if triangle is None else triangle.unsqueeze(1))


@dataclass(frozen=True)
class _Turn:
    """Rows, key-value heads and queries that are worked on at a time, and how many of the keys."""

    rows: slice
    heads: slice
    queries: slice
    keys: int


def _turns(q: Tensor, k: Tensor, causal: bool) -> Iterator[_Turn]:
    """Blocks of queries, each over all rows where a row's scores are few; else row by row, as many heads of it as fit.

    So what is held for a moment grows with the rows or not at all, which plans of the memory rely on.
    """
    batch, heads, keys = k.shape[:3]
    for start, stop in _blocks(q.shape[2]) if causal else [(0, q.shape[2])]:
        queries, seen = slice(start, stop), stop if causal else keys
        of_head = q.shape[1] // heads * (stop - start) * seen * q.element_size()
        if heads * of_head < _SCORE_BYTES:
            yield _Turn(slice(None), slice(None), queries, seen)
            continue
        fitting = max(1, _SCORE_BYTES // of_head)
        for row in range(batch):
            for head in range(0, heads, fitting):
                yield _Turn(slice(row, row + 1), slice(head, head + fitting), queries, seen)


def _empty_like(q: Tensor) -> Tensor:
    """[B, H, T, Dh], laid out as a projection gives and takes it: [B, T, H, Dh]."""
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)


def _by_key_head(part: Tensor, heads: int, turn: _Turn) -> Tensor:
    """Of a turn's [B, H, T, Dh], a view [rows, heads, queries, group, Dh]: those that share a key head together."""
    return part.unflatten(1, (heads, -1)).transpose(2, 3)[turn.rows, turn.heads, turn.queries]


def _matrices(part: Tensor) -> Tensor:
    """[rows, heads, ..., Dh] as [rows heads, ..., Dh]."""
    return part.reshape(part.shape[0] * part.shape[1], -1, part.shape[-1])


def _of_turn(mask: Tensor, turn: _Turn) -> Tensor:
    """What of a mask of five dimensions belongs to a turn."""
    wanted = (turn.rows, turn.heads, turn.queries, slice(None), slice(turn.keys))
    return mask[tuple(w if size > 1 else slice(None) for w, size in zip(wanted, mask.shape, strict=True))]


def _forward(parts: tuple[Tensor, ...], seen: _Seen) -> Tensor:
    """[B, H, T, Dh]."""
    q, k, v = parts
    out = _empty_like(q)
    for turn in _turns(q, k, seen.causal):
        queries = _by_key_head(q, k.shape[1], turn)
        weights = _weights(turn, _matrices(queries), k, seen)
        result = batched(weights, _matrices(v[turn.rows, turn.heads, : turn.keys]))
        _by_key_head(out, k.shape[1], turn).copy_(result.view(queries.shape))
    return out


def _weights(turn: _Turn, queries: Tensor, k: Tensor, seen: _Seen) -> Tensor:
    """[rows heads, queries group, keys]."""
    keys = k[turn.rows, turn.heads, : turn.keys]
    scores = batched(queries, _matrices(keys).transpose(1, 2))
    size = turn.queries.stop - turn.queries.start
    if seen.mask is not None:
        scores.view(*keys.shape[:2], size, -1, turn.keys).add_(_of_turn(seen.mask, turn))
    elif seen.triangle is not None:
        own = scores.view(len(scores), size, -1, turn.keys)[..., turn.queries.start :]
        own.add_(seen.triangle[:size, :, :size])
    return torch.softmax(scores, dim=-1)


def _backward(
    turn: _Turn, parts: tuple[Tensor, ...], seen: _Seen, gradient: Tensor, found: tuple[Tensor, ...]
) -> Tensor:
    """Write a turn's gradients of queries (not scaled yet) into ``found``, and add those of its keys and values; give
    those of its scores, [rows, heads, queries, group, keys]."""
    heads = parts[1].shape[1]
    of_q = _by_key_head(found[0], heads, turn)
    q, gradient = (_matrices(_by_key_head(part, heads, turn)) for part in (parts[0], gradient))
    k, v = (_matrices(part[turn.rows, turn.heads, : turn.keys]) for part in parts[1:])
    weights = _weights(turn, q, parts[1], seen)
    of_v = batched(weights.transpose(1, 2), gradient)
    errors = batched(gradient, v.transpose(1, 2))
    errors = torch.ops.aten._softmax_backward_data(errors, weights, -1, weights.dtype)
    of_q.copy_(batched(errors, k).view(of_q.shape))
    of_k = batched(errors.transpose(1, 2), q)
    for whole, part in zip(found[1:], (of_k, of_v), strict=True):
        place = whole[turn.rows, turn.heads, : turn.keys]
        if turn.keys == whole.shape[2]:  # the first turn of these heads
            place.copy_(part.view(place.shape))
        else:
            place.add_(part.view(place.shape))
    return errors.view(*of_q.shape[:4], -1)
