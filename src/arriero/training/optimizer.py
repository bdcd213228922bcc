"""AdamW with decay on matrices only, and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from arriero.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) over the parameters that require gradients, states in fp32.

    Weight decay applies to tensors of two or more dimensions; norms and biases are left alone. The state is
    made here and not at the first step, so that a plan's trace and a checkpoint always see all of it.
    """
    import torch

    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True,
    )  # fmt: skip
    for p in trained:
        optimizer.state[p] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device),
            "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
        }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Give every group the learning rate of the coming step."""
    for group in optimizer.param_groups:
        group["lr"] = value


def clip_gradients(parameters: list[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients so that their joint norm is at most ``limit`` (0: leave them); return the norm before."""
    import torch

    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
