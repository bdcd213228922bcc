"""Cross-entropy of a plain linear head with its gradient written out: the whole in three products a block.

What autograd would do with the head of ``objectives.head``, less the passes over the logits that it takes besides and
the copies of the table's gradient, which here grows in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arriero.models.layers.precision import product_dtype
from arriero.products import linear, matmul, uses_onednn
from arriero.training.objectives.base import UNSCORED


def linear_loss_sum(
    hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, rows: int
) -> Tensor:
    """Sum of the cross-entropies of ``targets`` [S] under ``hidden W^T + b``, fp32; for a backward pass to follow.

    Args:
        hidden: [S, d]. weight: [V, d]. bias: [V] or None.
        rows: positions that are worked out at a time.
    """
    result: Tensor = _LinearLoss.apply(hidden, targets, weight, bias, rows, product_dtype(hidden))
    return result


class _LinearLoss(torch.autograd.Function):
    """Gradients of a sum are known up to the one factor that arrives in ``backward``, so they are made at once
    (the idea of Liger Kernel's fused linear cross-entropy, Hsu et al. 2024)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: int,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            found = _blocks(hidden.to(dtype), targets, weight, bias, rows, dtype)
        total, *gradients = found
        gradients[0] = gradients[0].to(hidden.dtype)
        ctx.trained = (True, weight.requires_grad, bias is not None and bias.requires_grad)
        ctx.save_for_backward(*(g for g, wanted in zip(gradients, ctx.trained, strict=True) if wanted))
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = iter(ctx.saved_tensors)
        hidden, weight, bias = (next(saved).mul_(grad) if wanted else None for wanted in ctx.trained)
        return hidden, None, weight, bias, None, None


def _blocks(
    hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The sum and its gradients with respect to hidden, weight and bias, block by block."""
    table, low_bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    grad_hidden = torch.empty_like(hidden)
    grad_weight = torch.zeros_like(weight) if weight.requires_grad else weight.new_empty(0)
    grad_bias = weight.new_zeros(0) if bias is None else torch.zeros_like(bias)
    for start in range(0, len(targets), rows):
        block = slice(start, start + rows)
        scored = targets[block] != UNSCORED
        chosen = targets[block].clamp(min=0)[:, None]
        scores = linear(hidden[block], table, low_bias).float()
        scores = torch.log_softmax(scores, dim=1)
        total -= scores.gather(1, chosen).squeeze(1).mul(scored).sum()
        errors = scores.exp_().scatter_add_(1, chosen, scores.new_full((), -1.0).expand_as(chosen)).to(dtype)
        # a position that is not scored is left out of the narrow factors, which spares a pass over the wide one
        counts = scored[:, None].to(dtype)
        grad_hidden[block] = matmul(errors, table).mul_(counts)
        if weight.requires_grad:
            _add_product(grad_weight, errors.t(), hidden[block] * counts)
        if bias is not None:
            grad_bias += counts.t().float().mm(errors.float()).squeeze(0)
    return total, grad_hidden, grad_weight, grad_bias


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a b``; in place where one library does both."""
    if total.dtype == a.dtype and not uses_onednn():
        total.addmm_(a, b)
    else:
        total.add_(matmul(a, b))
