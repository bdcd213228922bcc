"""An objective as one of several processes sees it: its share of the samples, its part of each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from arriero.training.objectives.base import Batch, Objective
from arriero.training.parallel.dealing import Filler, deal
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.sequence import cut_batch

Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Share:
    """This process' part of a micro-batch.

    Attributes:
        part: what it computes with.
        whole: what several processes may compute together.
        filler: True where it counts nothing.
        tokens: how many this process counts.
    """

    part: Batch
    whole: Batch
    filler: bool
    tokens: int

    @property
    def ids(self) -> torch.Tensor:
        return self.part.ids

    @property
    def device(self) -> torch.device:
        return self.part.ids.device

    def to(self, device: torch.device) -> Share:
        return replace(self, part=self.part.to(device), whole=self.whole.to(device))


class SharedObjective:
    """Has the methods of :class:`Objective` that a run calls; the others are the inner one's.

    Args:
        inner: the objective.
        run: computes the loss of a share with what the cut model needs around it.
        least: micro-batches at least.
    """

    def __init__(
        self, inner: Objective, grid: Grid, run: Callable[[Objective, Share], Loss], least: int
    ) -> None:
        self.inner = inner
        self._grid = grid
        self._run = run
        self._least = least
        self._counts = not (grid.place.pipeline or grid.place.tensor)

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """This process' micro-batches: as many as every other's."""
        return deal(self.inner, indices, size, self._grid.dealt, self._grid.layout.dealt, self._least)

    def batch(self, indices: Sequence[int]) -> Share:
        return self._share(self.inner.batch(indices), isinstance(indices, Filler))

    def shaped(self, share: Share, done: float) -> Share:
        """As ``Objective.shaped``, of the whole micro-batch."""
        return self._share(self.inner.shaped(share.whole, done), share.filler) if self.inner.grows else share

    def _share(self, whole: Batch, filler: bool) -> Share:
        layout, part = self._grid.layout, whole
        if layout.context > 1:
            part = cut_batch(whole, self._grid.place.context, layout.context, layout.length_step)
        return Share(part, whole, filler, part.tokens if self._counts and not filler else 0)

    def weight(self, share: Share) -> int:
        """What this process counts of the weight; the sum over all processes is the step's."""
        return self.inner.weight(share.part) if self._counts and not share.filler else 0

    def loss_sum(self, model: Any, share: Share) -> Loss:
        """The loss of this process' part, with its graph; nothing of a filler."""
        loss, figures = self._run(self.inner, share)
        if share.filler:
            return loss * 0.0, {name: value * 0.0 for name, value in figures.items()}
        return loss, figures


class SharedFlops:
    """Arithmetic of the whole micro-batch, counted by one of the processes that share it."""

    def __init__(self, inner: Any, counts: bool, first: bool) -> None:
        self._inner = inner
        self._counts = counts
        self._first = first

    def training(self, share: Share) -> float:
        return float(self._inner.training(share.whole)) if self._counts and not share.filler else 0.0

    def update(self) -> float:
        """Of the whole model, counted once."""
        return float(self._inner.update()) if self._first else 0.0

    def evaluation(self, share: Share) -> float:
        return float(self._inner.evaluation(share.whole)) if self._counts and not share.filler else 0.0
