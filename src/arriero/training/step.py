"""The gradient of one optimizer step. The loop runs this, and the plan traces this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from arriero.training.objectives.base import Batch, Objective
from arriero.training.precision import Precision, autocast


def accumulate(
    model: Any, objective: Objective, batches: Sequence[Batch], weight: int, precision: Precision
) -> dict[str, torch.Tensor]:
    """Add the gradient of the micro-batches' loss sum over ``weight`` to the parameters' ``grad``.

    Args:
        weight: of the whole optimizer step, so that its parts may have any sizes.

    Returns:
        The sums of the loss (``loss``) and of the objective's figures, detached, fp32.
    """
    sums: dict[str, torch.Tensor] = {}
    for batch in batches:
        with autocast(precision, batch.device.type):
            loss, figures = objective.loss_sum(model, batch)
        (loss / weight).backward()
        for name, value in {"loss": loss.detach(), **figures}.items():
            sums[name] = sums[name] + value if name in sums else value
    return sums
