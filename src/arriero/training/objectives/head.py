"""From hidden states to log-probabilities, never holding logits of more than a block of positions.

The logits of a training batch are by far its largest tensor (positions times vocabulary). Working through
them in blocks keeps them in the processor's cache, and out of the peak memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from arriero.cost.turns import turns
from arriero.training.objectives.linear_head import linear_loss_sum

BLOCK_LOGITS = 1 << 22
"""Logits in a block (16 MiB in fp32), about what a processor's cache holds."""
EFFICIENT_ROWS, MOST_LOGITS = 512, 1 << 25
"""A product of few rows with a large table is slow, so a block has as many rows as the first says, as far as that takes
no more logits than the second (128 MiB in fp32)."""

Head = Callable[[torch.Tensor], torch.Tensor]


_heads: WeakKeyDictionary[Any, list[torch.nn.Parameter]] = WeakKeyDictionary()


def head_parameters(model: Any) -> list[torch.nn.Parameter]:
    """The trained parameters that ``model.logits`` uses: found once by asking autograd, so any head will do."""
    if model not in _heads:
        _heads[model] = _find_head_parameters(model)
    return _heads[model]


def _find_head_parameters(model: Any) -> list[torch.nn.Parameter]:
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained or not hasattr(model, "logits"):  # no head over a vocabulary
        return []
    with torch.enable_grad():
        width = getattr(model, "width", model.config.d_model)
        probe = model.logits(torch.zeros(1, width, device=trained[0].device)).sum()
    if not probe.requires_grad:
        return []
    grads = torch.autograd.grad(probe, trained, allow_unused=True)
    return [p for p, grad in zip(trained, grads, strict=True) if grad is not None]


def plain_table(model: Any) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """Weight [V, d] and bias of a head that is one linear layer; None where it is more than that."""
    find = getattr(model, "head_table", None)
    return None if find is None else find()


def block_rows(vocab_size: int) -> int:
    """Positions whose logits are worked out at a time."""
    efficient = min(EFFICIENT_ROWS, MOST_LOGITS // vocab_size)
    return max(1, BLOCK_LOGITS // vocab_size, efficient)


def chosen(hidden: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """The rows of ``hidden`` [B, T, d] at the flat positions [S], as [S, d]; None: all of them."""
    flat = hidden.flatten(0, 1)
    return flat if positions is None else flat.index_select(0, positions)


def loss_sum(
    model: Any, hidden: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Sum of the cross-entropies of ``targets`` [S] under the head's logits of ``hidden`` [S, d], fp32.

    Targets that are UNSCORED count nothing. With ``label_smoothing`` that share of each target is spread evenly over
    the vocabulary (Szegedy et al., arXiv 1512.00567, section 7).

    With gradients, each block's gradient is worked out right after its loss, while its logits are at hand:
    nothing is kept and nothing is computed twice.
    """
    cut = getattr(model, "head_losses", None)  # a vocabulary over several processes has losses of its own
    if cut is not None:
        return cut.loss_sum(hidden, targets, label_smoothing)
    table = plain_table(model) if torch.is_grad_enabled() and not label_smoothing else None
    if table is not None:
        return linear_loss_sum(hidden, targets, *table)
    rows = block_rows(model.config.vocab_size)
    if torch.is_grad_enabled():
        result = _BlockedLoss.apply(
            hidden, targets, model.logits, rows, label_smoothing, *head_parameters(model)
        )
        assert isinstance(result, torch.Tensor)
        return result
    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    losses = [_block_loss(model.logits, h, t, label_smoothing) for h, t in parts]
    return torch.stack(losses).sum() if losses else hidden.new_zeros((), dtype=torch.float32)


def log_probs(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Natural-log probability of each target [S] under the head's logits of ``hidden`` [S, d], fp32.

    For losses that are not a plain sum over tokens. The logits of up to four blocks are kept for the backward pass;
    of more, each block's are worked out again.
    """
    cut = getattr(model, "head_losses", None)
    if cut is not None:
        return cut.log_probs(hidden, targets)
    vocab_size = model.config.vocab_size
    again = torch.is_grad_enabled() and recomputes(len(targets), vocab_size)
    rows = block_rows(vocab_size)

    def block(h: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -F.cross_entropy(model.logits(h).float(), t, reduction="none")

    parts = zip(hidden.split(rows), targets.split(rows), strict=True)
    if again:
        return torch.cat(
            [checkpoint(block, h, t, use_reentrant=False, preserve_rng_state=False) for h, t in parts]
        )
    return torch.cat([block(h, t) for h, t in parts])


def recomputes(scored: int, vocab_size: int) -> bool:
    """True when :func:`log_probs` works out the logits of that many positions twice rather than keep them."""
    return scored * vocab_size > 4 * BLOCK_LOGITS


def _block_loss(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    return F.cross_entropy(head(hidden).float(), targets, reduction="sum", label_smoothing=label_smoothing)


class _BlockedLoss(torch.autograd.Function):
    """Cross-entropy sum whose gradients are made block by block in the forward pass.

    Right because a sum's gradient is known up to the one factor that arrives in ``backward``
    (the idea of Liger Kernel's fused linear cross-entropy, Hsu et al. 2024).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        head: Head,
        rows: int,
        label_smoothing: float,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        grad_hidden = torch.empty_like(hidden)
        grads = [torch.zeros_like(p) for p in parameters]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for block in turns(len(targets), rows):
            with torch.enable_grad():
                h = hidden[block].detach().requires_grad_()
                loss = _block_loss(head, h, targets[block], label_smoothing)
            first, *rest = torch.autograd.grad(loss, [h, *parameters])
            grad_hidden[block] = first
            for grad, part in zip(grads, rest, strict=True):
                grad += part
            total += loss.detach()
        ctx.save_for_backward(grad_hidden, *grads)
        return total

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        grad_hidden, *grads = ctx.saved_tensors
        return grad_hidden * grad, None, None, None, None, *(g.mul_(grad) for g in grads)
