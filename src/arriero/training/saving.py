"""A run's state in its checkpoints: what is saved, when, and how it is put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from arriero.stage import Context
from arriero.training import randomness
from arriero.training.checkpoint import CheckpointStore
from arriero.training.duration import Interval
from arriero.training.metrics import Totals, rewind_metrics
from arriero.training.objectives.base import Objective
from arriero.training.settings import TrainSettings

Tensors = dict[str, torch.Tensor]


class Saver:
    """Saves and restores a run: weights, optimizer, generators, what the objective carries, totals.

    Args:
        trained: the trained parameters by name, in fp32.
        fingerprint: a checkpoint fits when it has the same one.
    """

    def __init__(
        self,
        context: Context,
        settings: TrainSettings,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        device: torch.device,
        fingerprint: Callable[[], str],
    ) -> None:
        self._context = context
        self._trained = trained
        self._optimizer = optimizer
        self._objective = objective
        self._device = device
        self._fingerprint = fingerprint
        self._store = CheckpointStore(context.state, settings.keep_checkpoints, context.say)
        self._interval = Interval.parse(settings.checkpoint_every)
        self._step, self._at = 0, time.monotonic()

    def due(self, step: int) -> bool:
        """True when the interval since the last checkpoint is over."""
        return self._interval.due(step - self._step, time.monotonic() - self._at)

    def save(self, totals: Totals) -> bool:
        """Write a checkpoint; False (and a line said) when it could not be written."""
        generators, others = randomness.capture(self._device)
        state = {"fingerprint": self._fingerprint(), "totals": totals.dump(), "random": others}
        saved = self._store.save(totals.step, {**self._tensors(), **generators}, state)
        self._step, self._at = totals.step, time.monotonic()
        return saved

    def _tensors(self) -> Tensors:
        tensors: Tensors = {f"model.{name}": p for name, p in self._trained.items()}
        for name, p in self._trained.items():
            tensors |= {f"optimizer.{key}.{name}": value for key, value in self._optimizer.state[p].items()}
        return tensors | {f"carried.{name}": value for name, value in self._objective.carried().items()}

    @torch.no_grad()
    def restore(self, before: int | None = None) -> Totals | None:
        """Put back the newest checkpoint that is whole and of this run; None where there is none.

        The metrics file is cut after the checkpoint's step: what comes later is about to be done again.

        Args:
            before: take one from before this step, and remove those that are not.
        """
        if before is not None:
            self._store.drop_from(before)
        fingerprint = self._fingerprint()
        found = self._store.latest(lambda state: state.get("fingerprint") == fingerprint)
        rewind_metrics(self._context.state, found.step if found else -1)
        if found is None:
            return None
        self._put_back(found.tensors)
        randomness.restore(found.tensors, found.state["random"], self._device)
        self._step = found.step
        return Totals.load(found.state["totals"])

    def _put_back(self, tensors: Mapping[str, Any]) -> None:
        for name, p in self._trained.items():
            p.copy_(tensors[f"model.{name}"])
            for key, value in self._optimizer.state[p].items():
                value.copy_(tensors[f"optimizer.{key}.{name}"])
        held = {n.removeprefix("carried."): t for n, t in tensors.items() if n.startswith("carried.")}
        self._objective.carry({name: tensor.to(self._device) for name, tensor in held.items()})
