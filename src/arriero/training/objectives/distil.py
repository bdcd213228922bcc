"""Distillation: match a teacher's distribution of the next token, beside the text itself.

Hinton, Vinyals and Dean (arXiv 1503.02531): with p and q the teacher's and the student's distributions at temperature
T, the loss of a token is alpha (-log q_1(token)) + (1 - alpha) T^2 KL(p || q), where q_1 is the student's at
temperature 1. T^2 keeps the gradient's size when T changes. The reverse divergence, KL(q || p), makes a small student
choose among the teacher's likely tokens rather than cover all of them (Gu et al., arXiv 2306.08543; there on the
student's own texts, here on the given ones).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from arriero.errors import ArrieroError
from arriero.training.objectives import head
from arriero.training.objectives.base import UNSCORED, Batch
from arriero.training.objectives.causal import CausalObjective, Windows

Divergence = Literal["forward", "reverse"]
_TEACHER = "distillation_teacher"


def attach_teacher(student: nn.Module, teacher: nn.Module) -> None:
    """Let the objective find the teacher with the student. It is no part of it: not trained, counted or saved.

    Raises:
        ArrieroError: the two have different vocabularies.
    """
    sizes = [model.config.vocab_size for model in (teacher, student)]
    if sizes[0] != sizes[1]:
        raise ArrieroError(
            f"the teacher tells {sizes[0]:,} tokens apart, the student {sizes[1]:,}; distillation needs one vocabulary"
        )
    teacher.requires_grad_(False).eval()
    object.__setattr__(student, _TEACHER, teacher)


class DistilObjective(CausalObjective):
    """Mean of the distillation loss over the scored tokens of packed windows; see the module's docstring.

    The model must have a teacher (:func:`attach_teacher`), of any width and family with a head over the same
    vocabulary. The logits of both are worked out block by block.

    Args:
        windows, context_length, document_mask: as for CausalObjective.
        temperature: T. alpha: weight of the text's own tokens; 1: the teacher is not asked.
        divergence: forward = KL(teacher || student), reverse = KL(student || teacher).
    """

    def __init__(
        self,
        windows: Windows,
        context_length: int,
        document_mask: bool,
        *,
        temperature: float = 2.0,
        alpha: float = 0.5,
        divergence: Divergence = "forward",
    ) -> None:
        super().__init__(windows, context_length, document_mask)
        self._temperature, self._alpha, self._divergence = temperature, alpha, divergence

    def loss_sum(self, model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the loss in nats; figures: ``hard_loss`` (-log q_1) and ``divergence`` (KL without T^2)."""
        hidden = head.chosen(model.hidden(batch.ids, segments=batch.segments), batch.positions)
        if self._alpha == 1.0:
            hard = head.loss_sum(model, hidden, batch.targets)
            return hard, {"hard_loss": hard.detach()}
        teacher = _teacher_of(model, batch.device)
        with torch.no_grad():
            taught = head.chosen(teacher.hidden(batch.ids, segments=batch.segments), batch.positions)
        rows = head.block_rows(model.config.vocab_size)
        blocks = _Blocks(self, model.logits, teacher.logits, taught, batch.targets, rows)
        if torch.is_grad_enabled():
            total, figures = _BlockedDistillation.apply(hidden, blocks, *head.head_parameters(model))
        else:
            total, figures = blocks.sums(hidden)
        return total, {"hard_loss": figures[0].detach(), "divergence": figures[1].detach()}

    def token_losses(
        self, student: Tensor, teacher: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, -log q_1 of the target, divergence) of each token, fp32 [S], 0 where the target is UNSCORED.

        Args:
            student, teacher: logits [S, V]. targets: int64 [S].
        """
        student, teacher, t = student.float(), teacher.float(), self._temperature
        hard = F.cross_entropy(student, targets, reduction="none", ignore_index=UNSCORED)
        q, p = F.log_softmax(student / t, dim=-1), F.log_softmax(teacher / t, dim=-1)
        wanted, found = (p, q) if self._divergence == "forward" else (q, p)
        soft = F.kl_div(found, wanted, log_target=True, reduction="none").sum(-1) * (targets != UNSCORED)
        return self._alpha * hard + (1 - self._alpha) * t**2 * soft, hard, soft


def _teacher_of(model: Any, device: torch.device) -> Any:
    teacher = getattr(model, _TEACHER, None)
    if teacher is None:
        raise ArrieroError("the student has no teacher; give it one with attach_teacher before training")
    if next(teacher.parameters()).device != device:
        teacher.to(device)
    return teacher


class _Blocks:
    """The loss of a batch, some positions at a time."""

    def __init__(
        self,
        objective: DistilObjective,
        student: head.Head,
        teacher: head.Head,
        taught: Tensor,
        targets: Tensor,
        rows: int,
    ) -> None:
        self._objective, self._student, self._teacher = objective, student, teacher
        self._taught, self._targets = taught, targets
        self.slices = [slice(start, start + rows) for start in range(0, len(targets), rows)]

    def block(self, hidden: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """(loss sum, figures [2]) of the positions ``part``; ``hidden``: the student's vectors there."""
        with torch.no_grad():
            wanted = self._teacher(self._taught[part])
        loss, hard, soft = self._objective.token_losses(self._student(hidden), wanted, self._targets[part])
        return loss.sum(), torch.stack([hard.sum(), soft.sum()])

    def sums(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Both over all positions."""
        parts = [self.block(hidden[part], part) for part in self.slices]
        return torch.stack([loss for loss, _ in parts]).sum(), torch.stack([f for _, f in parts]).sum(0)


class _BlockedDistillation(torch.autograd.Function):
    """The loss sum whose gradients are made block by block in the forward pass, as in ``head``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, blocks: _Blocks, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        grad_hidden = torch.empty_like(hidden)
        grads = [torch.zeros_like(p) for p in parameters]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        figures = torch.zeros(2, dtype=torch.float32, device=hidden.device)
        for part in blocks.slices:
            with torch.enable_grad():
                h = hidden[part].detach().requires_grad_()
                loss, both = blocks.block(h, part)
            first, *rest = torch.autograd.grad(loss, [h, *parameters])
            grad_hidden[part] = first
            for grad, more in zip(grads, rest, strict=True):
                grad += more
            total += loss.detach()
            figures += both.detach()
        ctx.save_for_backward(grad_hidden, *grads)
        ctx.mark_non_differentiable(figures)
        return total, figures

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        grad_hidden, *grads = ctx.saved_tensors
        return grad_hidden * grad, None, *(g.mul_(grad) for g in grads)
