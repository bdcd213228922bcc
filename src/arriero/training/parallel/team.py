"""What the training loop asks of the processes it runs on: one alone, or many that share every step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from arriero.training.objectives.base import Batch, Objective
from arriero.training.optimizers.clipping import clip_gradients
from arriero.training.optimizers.cut import Cut
from arriero.training.parallel.layout import check_layout, check_started, layout_of
from arriero.training.parallel.world import join, world
from arriero.training.precision import Precision
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate

if TYPE_CHECKING:
    from arriero.training.parallel.many import Many

Sums = dict[str, torch.Tensor]


class RankDone(Exception):  # noqa: N818 - it is no fault
    """This process' part of a training is over; what follows is the first process' business."""


class Team:
    """One process alone: everything is as it would be without this class.

    Attributes:
        model: computes; the model that was given, or a copy that is cut.
        rank, size: of this process, among all.
    """

    rank, size = 0, 1
    recomputes = True
    """Whether a micro-batch can be computed by itself, and so be computed twice to compare."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def leads(self) -> bool:
        """True for the process that logs, shows progress and writes files."""
        return self.rank == 0

    def objective(self, objective: Objective) -> Objective:
        """The objective over this process' share of the samples."""
        return objective

    def flops(self, flops: Any) -> Any:
        """A FLOP count of which each micro-batch is counted by one process."""
        return flops

    def count(self, value: float) -> float:
        """Sum over the processes of what each counts (``Objective.weight``, tokens, FLOPs)."""
        return value

    def losses(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Sums over all samples, from those of this process' share."""
        return dict(sums)

    def seconds(self, wall: float, processor: float) -> tuple[float, float]:
        """(mean wall seconds, summed processor seconds) of all."""
        return wall, processor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether it is set in any process."""
        return flags

    def accumulate(
        self, model: Any, objective: Objective, batches: Sequence[Batch], weight: int, precision: Precision
    ) -> Sums:
        """As ``step.accumulate``."""
        return accumulate(model, objective, batches, weight, precision)

    def finish_gradients(self) -> None:
        """Between the last backward pass and the clipping: add up what the processes know of a gradient."""

    def clip(
        self, parameters: list[nn.Parameter], limit: float, optimizer: torch.optim.Optimizer | None = None
    ) -> float:
        """As ``clip_gradients``, by the norm over all processes."""
        return float(clip_gradients(parameters, limit, optimizer))

    def reseed(self, seed: int, position: int) -> None:
        """Set the generators for the step that begins at this position in the samples. One process alone draws on."""

    def spread(self, name: str, part: torch.Tensor) -> torch.Tensor:
        """``part``, of parameter ``name`` or of its optimizer state, as a checkpoint sees it: where it lies in the whole."""
        return part

    def cut(self, name: str) -> Cut | None:
        """How this process' part of parameter ``name`` lies in the whole; None: it has all of it."""
        return None

    def check_whole(self, what: str) -> None:
        """
        Raises:
            ArrieroError: no process has the whole model, which ``what`` needs.
        """

    def finish(self) -> None:
        """The run is over: the model that was given is whole again in the first process.

        Raises:
            RankDone: in the others.
        """


def arrange(model: nn.Module, objective: Objective, settings: TrainSettings) -> Team:
    """Cut the model as the settings say over the processes that torchrun started.

    Raises:
        ArrieroError: the layout does not fit their number, the model, the objective or the optimizer.
    """
    here = world()
    check_started(settings.parallel, here.size)
    if here.size == 1:
        return Team(model)
    layout = layout_of(settings.parallel, here.size)
    check_layout(layout, getattr(model, "config", None), objective, settings)
    device = next(model.parameters()).device
    join(device)
    from arriero.training.parallel.many import Many

    many: Many = Many(model, layout, settings, device)
    return many


def seed_of(seed: int, position: int, rank: int) -> int:
    """A seed of 63 bits for one process and one step, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{position}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
