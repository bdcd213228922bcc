"""Cross-entropy of a plain linear head with its gradient written out: the whole in three products a block.

What autograd would do with the head of ``objectives.head``, less the passes over the logits that it takes besides and
the copies of the table's gradient, which here grows in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arriero.cost.turns import turns
from arriero.models.layers.precision import product_dtype
from arriero.native import training as native
from arriero.products import linear, matmul, uses_onednn, widens
from arriero.training.objectives.base import SCORED_STEP, UNSCORED

CACHED_SCORES = 1 << 20
"""Scores whose softmax is taken at a time on a processor: 4 MiB in float32, which its caches hold."""
_MIXED = (torch.float32, torch.bfloat16)
BLOCK_BYTES, MOST_ROWS = 1 << 27, 2048
"""Memory of the scores that are there at a time, and the rows from which on products get no faster."""


def rows_at_once(vocab_size: int, dtype: torch.dtype) -> int:
    """Positions whose scores are worked out at a time: a number of rows that products like."""
    rows = min(MOST_ROWS, BLOCK_BYTES // (vocab_size * dtype.itemsize))
    return max(1, rows - rows % SCORED_STEP if rows > SCORED_STEP else rows)


def linear_loss_sum(
    hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, rows: int = 0
) -> Tensor:
    """Sum of the cross-entropies of ``targets`` [S] under ``hidden W^T + b``, fp32; for a backward pass to follow.

    Args:
        hidden: [S, d]. weight: [V, d]. bias: [V] or None.
        rows: positions that are worked out at a time; 0: as many as are fast and small.
    """
    dtype = product_dtype(hidden)
    rows = rows or rows_at_once(len(weight), dtype)
    result: Tensor = _LinearLoss.apply(hidden, targets, weight, bias, rows, dtype)
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
    grad_weight = weight.new_empty(0)
    grad_bias = weight.new_zeros(0) if bias is None else torch.zeros_like(bias)
    for block in turns(len(targets), rows):
        scored = targets[block] != UNSCORED
        errors = linear(hidden[block], table, low_bias)
        total += scores_to_errors(errors, targets[block].clamp(min=0)[:, None], scored[:, None])
        # a position that is not scored is left out of the narrow factors, which spares a pass over the wide one
        counts = scored[:, None].to(dtype)
        grad_hidden[block] = matmul(errors, table).mul_(counts)
        if weight.requires_grad:
            grad_weight = _plus_product(grad_weight, weight.dtype, errors.t(), hidden[block] * counts)
        if bias is not None:
            grad_bias += counts.t().float().mm(errors.float()).squeeze(0)
    if weight.requires_grad and not len(targets):
        grad_weight = torch.zeros_like(weight)
    return total, grad_hidden, grad_weight, grad_bias


def scores_to_errors(scores: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Turn scores [S, V] in place into softmax minus one-hot; returns the sum of the cross-entropies, fp32.

    A few rows at a time, whose float32 values stay in the processor's cache; in memory the scores have one place, and
    only in their own dtype.

    Args:
        targets: int64 [S, 1], each in 0 .. V - 1.
        scored: bool [S, 1]: which of the cross-entropies count.
    """
    if scores.is_contiguous() and native.takes(scores):
        return native.scores_to_errors(scores, targets[:, 0], scored[:, 0])
    total = torch.zeros((), dtype=torch.float32, device=scores.device)
    step = len(scores) if scores.is_cuda else max(1, CACHED_SCORES // scores.shape[1])
    for part in turns(len(scores), step):
        wide, chosen = scores[part].float(), targets[part]
        shares = torch.softmax(wide, dim=1)
        # the highest share is never small, so its logarithm gives that of the softmax's denominator to the last digit
        log_sum = wide.amax(dim=1, keepdim=True) - shares.amax(dim=1, keepdim=True).log_()
        total += (log_sum - wide.gather(1, chosen)).mul_(scored[part]).sum()
        scores[part] = shares.scatter_add_(1, chosen, shares.new_full((), -1.0).expand_as(chosen))
    return total


def _plus_product(total: Tensor, dtype: torch.dtype, a: Tensor, b: Tensor) -> Tensor:
    """``total + a b`` in ``dtype``, in place where there is a total already; in one go where one library does both."""
    if not total.numel():
        return matmul(a, b).to(dtype)
    if total.dtype == a.dtype and not (uses_onednn() or widens(a, b)):
        return total.addmm_(a, b)
    product = matmul(a, b)
    dense = total.is_contiguous() and product.is_contiguous()
    if dense and (total.dtype, product.dtype) == _MIXED and native.takes(total, product):
        return native.add_narrow(total, product, total)
    return total.add_(product)
