"""Held-out means of an objective, with the same code that trains on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from arriero.training.batches import permutation
from arriero.training.objectives.base import Batch, Objective
from arriero.training.precision import Precision, autocast


def evaluated_count(available: int, n_samples: int) -> int:
    """How many of the held-out samples are scored; ``n_samples`` 0 means all."""
    return min(available, n_samples) if n_samples else available


def evaluation_indices(objective: Objective, n_samples: int) -> list[int]:
    """Which held-out samples are scored: all, or the first ``n_samples`` of a fixed random order (0 = all).

    The same at every evaluation and for every seed, so that losses can be compared.
    """
    n = len(objective)
    if objective.ordered:
        return list(range(n))  # which samples these are, was settled when the objective was made
    return sorted(permutation(n, seed=0, epoch=0)[: evaluated_count(n, n_samples)].tolist())


def loss_without_gradient(
    model: Any, objective: Objective, batch: Batch, precision: Precision
) -> dict[str, torch.Tensor]:
    """Sums of the loss (``loss``) and of the objective's figures. The plan traces this, evaluation runs it."""
    with torch.no_grad(), autocast(precision, batch.device.type):
        loss, figures = objective.loss_sum(model, batch)
    return {"loss": loss, **figures}


def evaluate(
    model: Any,
    objective: Objective,
    indices: Sequence[int],
    *,
    micro_batch: int,
    precision: Precision,
    each: Callable[[Batch], None] = lambda batch: None,
    losses: Callable[[dict[str, float]], dict[str, float]] = lambda sums: sums,
    count: Callable[[float], float] = lambda value: value,
) -> dict[str, float]:
    """Means over the samples' whole weight: ``loss`` and the objective's own figures, and ``weight`` itself.

    Args:
        each: called after every micro-batch, to count and to let the user stop.
        losses, count: add up over all processes what each has found (``parallel.team``).
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    sums: dict[str, float] = {}
    weight = 0
    try:
        for part in objective.parts(indices, micro_batch):
            batch = objective.batch(part).to(device)
            for name, value in loss_without_gradient(model, objective, batch, precision).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            weight += objective.weight(batch)
            each(batch)
    finally:
        model.train(was_training)
    sums, weight = losses(sums), round(count(weight))
    return {**{name: value / max(1, weight) for name, value in sums.items()}, "weight": float(weight)}
