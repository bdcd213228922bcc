"""Losses of a head whose vocabulary is cut over processes; no process ever has all logits of a position.

Megatron-LM's parallel cross-entropy (arXiv 1909.08053, section 3), block by block as in ``objectives.head``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from arriero.cost.turns import turns
from arriero.errors import ArrieroError
from arriero.products import linear
from arriero.training.objectives.base import UNSCORED
from arriero.training.objectives.head import block_rows, recomputes
from arriero.training.parallel.collectives import copied


@dataclass(frozen=True)
class VocabularyHead:
    """A linear head [V, d] of which this process holds the rows from ``first`` on.

    Attributes:
        table: gives weight [rows held, d] and bias [rows held] or None, differentiable.
        vocab_size: V.
    """

    table: Callable[[], tuple[Tensor, Tensor | None]]
    first: int
    vocab_size: int
    group: dist.ProcessGroup

    def loss_sum(self, hidden: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """As ``objectives.head.loss_sum``: the same value in every process, and each its part of the gradients."""
        if label_smoothing:
            raise ArrieroError("parallel: label smoothing does not go with a vocabulary cut by tensor")
        rows = block_rows(self.vocab_size)
        weight, bias = self.table()
        if torch.is_grad_enabled():
            result: Tensor = _LossSum.apply(hidden, targets, weight, bias, self.first, self.group, rows)
            return result
        total = hidden.new_zeros((), dtype=torch.float32)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
            total -= target_log_probs(linear(h, weight, bias).float(), t, self.first, self.group).sum()
        return total

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """As ``objectives.head.log_probs``."""
        weight, bias = self.table()
        hidden, rows = copied(hidden, self.group), block_rows(self.vocab_size)

        def block(h: Tensor, t: Tensor) -> Tensor:
            return target_log_probs(linear(h, weight, bias).float(), t, self.first, self.group)

        def again(h: Tensor, t: Tensor) -> Tensor:
            found: Tensor = checkpoint(block, h, t, use_reentrant=False, preserve_rng_state=False)
            return found

        run = again if torch.is_grad_enabled() and recomputes(len(targets), self.vocab_size) else block
        parts = zip(hidden.split(rows), targets.split(rows), strict=True)
        return torch.cat([run(h, t) for h, t in parts])


def target_log_probs(logits: Tensor, targets: Tensor, first: int, group: dist.ProcessGroup) -> Tensor:
    """Natural-log probability of each target [S]; 0 for UNSCORED.

    Args:
        logits: fp32 [S, rows held], of the vocabulary from ``first`` on.
    """
    result: Tensor = _TargetLogProbs.apply(logits, targets, first, group)
    return result


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, first: int, group: dist.ProcessGroup) -> Tensor:
        top = logits.amax(dim=1)
        dist.all_reduce(top, dist.ReduceOp.MAX, group=group)
        odds = (logits - top[:, None]).exp_()
        held = (targets >= first) & (targets < first + logits.shape[1])
        index = (targets - first).masked_fill(~held, 0)[:, None]
        mine = (logits.gather(1, index).squeeze(1) - top).masked_fill(~held, 0.0)
        sums = torch.stack([odds.sum(dim=1), mine])
        dist.all_reduce(sums, group=group)
        scored = targets != UNSCORED
        ctx.save_for_backward(odds.div_(sums[0][:, None]), index, held, scored)
        return (sums[1] - sums[0].log()) * scored

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, index, held, scored = ctx.saved_tensors
        gradient = (gradient * scored)[:, None]
        errors = -probabilities * gradient
        return errors.scatter_add_(1, index, gradient * held[:, None]), None, None, None


class _LossSum(torch.autograd.Function):
    """Gradients of a sum are known up to the one factor that arrives in ``backward``, so each block's are made while
    its logits are at hand; what the processes have to say about ``hidden`` is added up once for all blocks."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, first: int,
        group: dist.ProcessGroup, rows: int,
    ) -> Tensor:  # fmt: skip
        table = [t.detach().requires_grad_() for t in (weight, bias) if t is not None]
        grads = [torch.zeros_like(t) for t in table]
        grad_hidden = torch.empty_like(hidden)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for block in turns(len(targets), rows):
            with torch.enable_grad():
                h = hidden[block].detach().requires_grad_()
                logits = linear(h, table[0], table[1] if bias is not None else None).float()
                loss = -target_log_probs(logits, targets[block], first, group).sum()
            of_hidden, *of_table = torch.autograd.grad(loss, [h, *table])
            grad_hidden[block] = of_hidden
            for grad, part in zip(grads, of_table, strict=True):
                grad += part
            total += loss.detach()
        dist.all_reduce(grad_hidden, group=group)
        ctx.biased = bias is not None
        ctx.save_for_backward(grad_hidden, *grads)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, *table = (saved * gradient for saved in ctx.saved_tensors)
        return hidden, None, table[0], table[1] if ctx.biased else None, None, None, None
