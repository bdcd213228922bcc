"""AdamW (Loshchilov and Hutter, arXiv 1711.05101), in one kernel for all tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from arriero.training.optimizers.clipping import let_step_scale
from arriero.training.settings import TrainSettings


def make_adamw(groups: Sequence[Mapping[str, Any]], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over these groups, its state (two moments a parameter, and the steps) made at once."""
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups],
        lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True,
    )  # fmt: skip
    let_step_scale(optimizer)
    for group in optimizer.param_groups:
        for p in group["params"]:
            optimizer.state[p] = {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
            }
    return optimizer
