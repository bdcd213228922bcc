"""Attention with its scores worked out whole, in bfloat16 on a processor, some heads at a time.

Two batched products and a softmax, over as many heads as keep the scores in a core's cache. Nothing as wide as the scores
is kept: the backward pass, written out here, makes them again while they are in the cache.
Autograd under autocast would take the scores to float32 and back, and keep both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_SCORE_BYTES = 1 << 20
"""Of one row's scores that are worked on at a time, unless one head alone has more."""


def attend_explicit(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> Tensor:
    """Attention of q [B, H, T, Dh] over k, v [B, Hkv, S, Dh] -> [B, H, T, Dh], all of one dtype.

    Args:
        mask: additive, broadcastable to [B, H, T, S]; it may want a gradient.
        causal: token t sees keys 0 .. t; then there is no mask.
        scale: of the scores, by default Dh^-1/2.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if torch.is_grad_enabled():
        result: Tensor = _Attention.apply(q, k, v, mask, causal, scale)
        return result
    with torch.autocast(q.device.type, enabled=False):
        return _forward(*_by_key_head(q, k, v, scale), _five(mask, causal, q, k))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        ctx.causal, ctx.scale = causal, scale
        with torch.autocast(q.device.type, enabled=False):
            parts = _by_key_head(q, k, v, scale)
            out = _forward(*parts, _five(mask, causal, q, k))
        ctx.save_for_backward(*parts, mask)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask = ctx.saved_tensors
        gradient = gradient.reshape(q.shape)
        five = _five(mask, ctx.causal, q.flatten(1, 2), k)
        found = tuple(torch.empty_like(part) for part in (q, k, v))
        wide = torch.promote_types(q.dtype, torch.float32)
        of_mask = torch.zeros_like(five, dtype=wide) if ctx.needs_input_grad[3] else None
        for turn in _turns(q, k):
            errors = _backward(turn, (q, k, v), five, gradient, found)
            if of_mask is not None:
                part = _of_turn(of_mask, turn)
                part += errors.to(wide).sum_to_size(part.shape)
        found[0].mul_(ctx.scale)
        if of_mask is not None:
            of_mask = of_mask.view(mask.shape).to(mask.dtype)
        return found[0].flatten(1, 2), *found[1:], of_mask, None, None


_Turn = tuple[slice, slice]
"""Rows and key-value heads that are worked on at a time."""


def _by_key_head(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [B, Hkv, group, T, Dh], scaled: those that share a key head together. Keys and values as they are, whole."""
    queries = (q * scale).contiguous().unflatten(1, (k.shape[1], -1))
    return queries, k.contiguous(), v.contiguous()


def _five(mask: Tensor | None, causal: bool, q: Tensor, k: Tensor) -> Tensor | None:
    """The mask as [1 or B, 1 or Hkv, 1 or group, 1 or T, 1 or S]."""
    if causal:
        mask = torch.full((q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if mask is None:
        return None
    mask = mask[(None,) * (4 - mask.dim())]
    return mask.unsqueeze(2) if mask.shape[1] == 1 else mask.unflatten(1, (k.shape[1], -1))


def _turns(q: Tensor, k: Tensor) -> Iterator[_Turn]:
    """All at once where a row's scores are few; else row by row, as many heads of it as fit.

    So what is held for a moment grows with the rows or not at all, which plans of the memory rely on.
    """
    batch, heads, group, length = q.shape[:4]
    of_head = group * length * k.shape[2] * q.element_size()
    if heads * of_head < _SCORE_BYTES:
        yield slice(None), slice(None)
        return
    fitting = max(1, _SCORE_BYTES // of_head)
    for row in range(batch):
        for head in range(0, heads, fitting):
            yield slice(row, row + 1), slice(head, head + fitting)


def _matrices(part: Tensor) -> Tensor:
    """[rows, heads, ..., Dh] as [rows heads, ..., Dh], a view: turns are whole rows or heads of one."""
    return part.view(part.shape[0] * part.shape[1], -1, part.shape[-1])


def _of_turn(mask: Tensor, turn: _Turn) -> Tensor:
    """What of a mask of five dimensions belongs to a turn."""
    rows, heads = (part if size > 1 else slice(None) for part, size in zip(turn, mask.shape, strict=False))
    return mask[rows, heads]


def _forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """[B, H, T, Dh]."""
    out = torch.empty_like(q)
    for turn in _turns(q, k):
        weights = _weights(turn, q, k, mask)
        torch.bmm(weights, _matrices(v[turn]), out=_matrices(out[turn]))
    return out.flatten(1, 2)


def _weights(turn: _Turn, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """[rows heads, group T, S]."""
    queries = q[turn]
    scores = torch.bmm(_matrices(queries), _matrices(k[turn]).transpose(1, 2))
    if mask is not None:
        scores.view(*queries.shape[:4], -1).add_(_of_turn(mask, turn))
    return torch.softmax(scores, dim=-1)


def _backward(
    turn: _Turn, parts: tuple[Tensor, ...], mask: Tensor | None, gradient: Tensor, found: tuple[Tensor, ...]
) -> Tensor:
    """Write a turn's gradients of queries (not scaled yet), keys and values into ``found``; give those of its scores,
    [rows, heads, group, T, S]."""
    weights = _weights(turn, parts[0], parts[1], mask)
    q, gradient = (part[turn].flatten(2, 3).flatten(0, 1) for part in (parts[0], gradient))
    k, v = (part[turn].flatten(0, 1) for part in parts[1:])
    errors = torch.bmm(gradient, v.transpose(1, 2))
    of_v = torch.bmm(weights.transpose(1, 2), gradient)
    errors = torch.ops.aten._softmax_backward_data(errors, weights, -1, weights.dtype)
    for whole, part in zip(
        found, (torch.bmm(errors, k), torch.bmm(errors.transpose(1, 2), q), of_v), strict=True
    ):
        whole[turn] = part.view(whole[turn].shape)
    return errors.view(*parts[0][turn].shape[:4], -1)
