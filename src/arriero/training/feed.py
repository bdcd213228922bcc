"""The micro-batches of each optimizer step, from the objective's samples in the run's order."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from arriero.training.batches import SampleOrder, SequentialOrder
from arriero.training.objectives.base import Batch, Objective


@dataclass(frozen=True)
class StepData:
    """What one optimizer step is made from.

    Attributes:
        start, stop: positions in the order of samples.
        indices: the samples.
        batches: their micro-batches, on the run's device.
        weight: what the step's loss sum is divided by.
        tokens: tokens in the batches, padding left out.
    """

    start: int
    stop: int
    indices: list[int]
    batches: list[Batch]
    weight: int
    tokens: int


class Feed:
    """Gives the data of any step; a pure function of the seed and the position."""

    def __init__(self, objective: Objective, seed: int, micro_batch: int, device: torch.device) -> None:
        n_samples = len(objective)
        self._objective = objective
        self._order = SequentialOrder(n_samples) if objective.ordered else SampleOrder(n_samples, seed)
        self._micro_batch = micro_batch
        self._device = device

    def step(self, start: int, stop: int) -> StepData:
        """The data of the step that takes the samples at positions ``start`` to ``stop`` (exclusive)."""
        indices = self._order.take(start, stop)
        parts = self._objective.parts(indices, self._micro_batch)
        batches = [self._objective.batch(part).to(self._device) for part in parts]
        weight = sum(self._objective.weight(batch) for batch in batches)
        return StepData(start, stop, indices, batches, weight, sum(batch.tokens for batch in batches))
