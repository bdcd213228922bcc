"""The micro-batches of each optimizer step, from the objective's samples in the run's order."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import torch

from arriero.training.objectives.base import Batch, Objective

Made = tuple[list[int], list[Batch]]
"""Samples and their micro-batches, on the CPU."""


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
    waited: float = 0.0
    """Seconds that the step waited for its samples."""

    def shaped(self, objective: Objective, done: float) -> StepData:
        """With the batches as they go through the model when this share of the run is behind."""
        return replace(self, batches=[objective.shaped(batch, done) for batch in self.batches])


class Feed:
    """Gives the data of any step; a pure function of the seed and the position.

    While a step is computed, a thread gets the samples of the one that is likely to follow: it starts where this one
    ends and is as large. A step that turns out to be another one is made when it is asked for.

    Args:
        count: adds up over all processes what each counts.
    """

    def __init__(
        self,
        objective: Objective,
        seed: int,
        micro_batch: int,
        device: torch.device,
        count: Callable[[float], float] = lambda value: value,
    ) -> None:
        self._objective = objective
        self._order = objective.order(seed)
        self._micro_batch = micro_batch
        self._device = device
        self._count = count
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="arriero-feed")
        self._ahead: tuple[tuple[int, int], Future[Made]] | None = None

    def step(self, start: int, stop: int) -> StepData:
        """The data of the step that takes the samples at positions ``start`` to ``stop`` (exclusive)."""
        began = time.perf_counter()
        indices, made = self._take(start, stop)
        following = stop, 2 * stop - start
        self._ahead = following, self._thread.submit(self._make, *following)
        waited = time.perf_counter() - began
        batches = [batch.to(self._device) for batch in made]
        weight = round(self._count(sum(self._objective.weight(batch) for batch in batches)))
        tokens = round(self._count(sum(batch.tokens for batch in batches)))
        return StepData(start, stop, indices, batches, weight, tokens, waited)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take(self, start: int, stop: int) -> Made:
        if self._ahead is not None:
            place, coming = self._ahead
            if place == (start, stop):
                return coming.result()
            wait([coming])  # order and objective serve one thread at a time
        return self._make(start, stop)

    def _make(self, start: int, stop: int) -> Made:
        indices = self._order.take(start, stop)
        parts = self._objective.parts(indices, self._micro_batch)
        return indices, [self._objective.batch(part) for part in parts]
