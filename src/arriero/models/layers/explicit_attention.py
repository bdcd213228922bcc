"""Attention with its scores worked out whole, in bfloat16 on a processor, its backward pass written out.

Two batched products and a softmax that keeps nothing wider than bfloat16. Autograd under autocast would take the scores
to float32 and back, and keep both: three times the memory, which is most of what a block of short rows keeps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
    if causal:
        mask = torch.full((q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if torch.is_grad_enabled():
        result: Tensor = _Attention.apply(q, k, v, mask, scale)
        return result
    with torch.autocast(q.device.type, enabled=False):
        return _forward(*_matrices(q, k, v, scale), mask, q.shape)[0]


def _matrices(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """[B Hkv, group * T, Dh] and twice [B Hkv, S, Dh]; the queries are scaled.

    The query heads that share a key head lie one below the other in one matrix.
    """
    batch, n_kv_heads, _, head_dim = k.shape
    queries = (q * scale).reshape(batch * n_kv_heads, -1, head_dim)
    return queries, k.flatten(0, 1), v.flatten(0, 1)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """Result in ``shape`` [B, H, T, Dh], and the weights [B Hkv, group * T, S]."""
    scores = torch.bmm(q, k.transpose(1, 2))
    if mask is not None:
        scores.view(*shape[:3], -1).add_(mask)
    weights = torch.softmax(scores, dim=-1)
    return torch.bmm(weights, v).view(shape), weights


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        ctx.scale, ctx.shapes = scale, (q.shape, k.shape, v.shape)
        ctx.mask = None if mask is None else (mask.shape, mask.dtype)
        with torch.autocast(q.device.type, enabled=False):
            matrices = _matrices(q, k, v, scale)
            out, weights = _forward(*matrices, mask, q.shape)
        ctx.save_for_backward(*matrices, weights)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        gradient = gradient.reshape(q.shape)
        v_gradient = torch.bmm(weights.transpose(1, 2), gradient)
        errors = torch.bmm(gradient, v.transpose(1, 2))
        errors = torch.ops.aten._softmax_backward_data(errors, weights, -1, weights.dtype)
        q_gradient = torch.bmm(errors, k).mul_(ctx.scale)
        k_gradient = torch.bmm(errors.transpose(1, 2), q)
        found = (g.view(s) for g, s in zip((q_gradient, k_gradient, v_gradient), ctx.shapes, strict=True))
        return *found, _mask_gradient(ctx, errors), None


def _mask_gradient(ctx: Any, errors: Tensor) -> Tensor | None:
    """Sum of the scores' gradients over what the mask was spread over."""
    if ctx.mask is None or not ctx.needs_input_grad[3]:
        return None
    (shape, dtype), whole = ctx.mask, errors.view(*ctx.shapes[0][:3], -1)
    found: Tensor = whole.float().sum_to_size(shape).to(dtype)
    return found
