"""A running average of the weights (Polyak and Juditsky 1992): often better than the last ones, always smoother."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

_KEY = "average"
_HEAD_START = 9
"""Step n forgets with at most (1 + n) / (1 + n + 9): the first weights, which are random, are soon forgotten."""


class WeightAverage:
    """Exponential moving average of the trained parameters, in fp32; none (and no cost) with a decay of 0.

    It starts as the first weights. Step n (from 1) keeps ``min(decay, (1 + n) / (10 + n))`` of it, the warm-up of
    TensorFlow's ``ExponentialMovingAverage``, which needs no correction for the start. The average is a part of
    ``optimizer.state[p]``, so checkpoints and plans see it as they see the moments.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, decay: float
    ) -> None:
        self._decay = decay
        self._parameters = list(parameters) if decay else []
        self._averages = [p.detach().to(torch.float32, copy=True) for p in self._parameters]
        for p, average in zip(self._parameters, self._averages, strict=True):
            optimizer.state[p][_KEY] = average
        self._swapped = False

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step ``step`` (from 1)."""
        if self._parameters:
            new = 1 - min(self._decay, (1 + step) / (1 + _HEAD_START + step))
            weights = [p.detach().float() for p in self._parameters]
            torch._foreach_lerp_(self._averages, weights, new)

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Within, the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Within, the model has its own weights even where :meth:`in_place_of_weights` is going on (to save them)."""
        swapped = self._swapped
        if swapped:
            self._swap()
        try:
            yield
        finally:
            if swapped:
                self._swap()

    @torch.no_grad()
    def give(self) -> None:
        """The run is over: the averaged weights become the model's."""
        for p, average in zip(self._parameters, self._averages, strict=True):
            p.copy_(average)

    @torch.no_grad()
    def _swap(self) -> None:
        """Weights and average change places, one tensor at a time: exact where the weights have no more bits than
        fp32, and no memory beyond the largest tensor."""
        for p, average in zip(self._parameters, self._averages, strict=True):
            weights = p.detach().clone()
            p.copy_(average)
            average.copy_(weights)
        self._swapped = not self._swapped
