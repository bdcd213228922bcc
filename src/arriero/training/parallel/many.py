"""Many processes that share every step (see ``team.Team`` for what each method is for)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

from arriero.errors import ArrieroError
from arriero.training import randomness
from arriero.training.objectives.base import Batch, Objective
from arriero.training.optimizers.cut import Cut
from arriero.training.parallel.data import Root, add_up, run_in, shard
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.layout import Layout
from arriero.training.parallel.pipeline import Pipeline, Stage, cut_blocks
from arriero.training.parallel.shared import Loss, Share, SharedFlops, SharedObjective
from arriero.training.parallel.team import RankDone, Sums, Team, seed_of
from arriero.training.parallel.tensor import cut_decoder
from arriero.training.parallel.view import View
from arriero.training.parallel.weights import Weights, same_parameters
from arriero.training.precision import Precision
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate


class Many(Team):
    """The processes of a layout, of which this is one."""

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        settings: TrainSettings,
        device: torch.device,
        grid: Grid | None = None,
    ) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = device
        self._layout = layout
        self._grid = grid = grid or Grid(layout, device)
        cut: Any = same_parameters(model) if layout.cuts else model
        super().__init__(cut)
        last = grid.place.pipeline == layout.pipeline - 1
        self._tied = layout.pipeline > 1 and cut.config.tie_embeddings
        if layout.pipeline > 1:
            cut_blocks(cut, grid.place.pipeline, layout.pipeline)
        self._partly_known: set[str] = set()
        if layout.tensor > 1:
            self._partly_known = cut_decoder(
                cut, grid, first=not grid.place.pipeline, last=last,
                regather=settings.activation_checkpointing == "none",
            )  # fmt: skip
        self._view = View(cut, grid, last) if layout.tensor * layout.context > 1 else cut
        stage = Stage(cut, grid) if layout.pipeline > 1 else None
        self._root: Root | None = None
        if layout.sharded and stage is not None:
            shard(cut, grid.shard_mesh, stage, kept=True)
        elif layout.sharded:
            self._root = Root(cut)
            shard(cut, grid.shard_mesh, self._root)
        self._weights = Weights(model, cut, grid)
        self._least = max(settings.parallel.microbatches, layout.pipeline)
        self._pipeline = None
        self.recomputes = layout.pipeline == 1
        if stage is not None:
            self._pipeline = Pipeline(stage, self._view, grid, settings.parallel.schedule, device)
            self._tied_group = self._ends() if self._tied else None

    def _ends(self) -> dist.ProcessGroup | None:
        """First and last process of this pipeline, which both have the tied table. All make all groups."""
        mine = None
        for column in self._grid.columns:
            group = dist.new_group([column[0], column[-1]])
            if self.rank in (column[0], column[-1]):
                mine = group
        return mine

    # ------------------------------------------------------------------------------- losses

    def objective(self, objective: Objective) -> Objective:
        return cast(Objective, SharedObjective(objective, self._grid, self._loss, self._least))

    def _loss(self, objective: Objective, share: Share) -> Loss:
        if self._pipeline is not None:
            return self._pipeline.evaluate(objective, share)

        def run() -> Loss:
            return objective.loss_sum(self._view, share.part)

        return run() if self._root is None else run_in(self._root, run)

    def flops(self, flops: Any) -> Any:
        return None if flops is None else SharedFlops(flops, self._grid.first_of_samples, self.leads)

    def accumulate(
        self, model: Any, objective: Objective, batches: Sequence[Batch], weight: int, precision: Precision
    ) -> Sums:
        if self._pipeline is None:
            return accumulate(model, objective, batches, weight, precision)
        shares = cast(Sequence[Share], batches)
        return self._pipeline.accumulate(model, cast(SharedObjective, objective), shares, weight, precision)

    # ------------------------------------------------------------------------------- sums

    def _total(self, values: Sequence[float], operation: Any = dist.ReduceOp.SUM) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(total, operation)
        found: list[float] = total.tolist()
        return found

    def count(self, value: float) -> float:
        return self._total([value])[0]

    def losses(self, sums: Mapping[str, float]) -> dict[str, float]:
        names = self._names(sums)
        has_loss = self._grid.has_loss
        return dict(zip(names, self._total([sums[n] if has_loss else 0.0 for n in names]), strict=True))

    def _names(self, sums: Mapping[str, float]) -> list[str]:
        """Those of the last stage: the others of a pipeline have no losses."""
        return list(sums) or ["loss"]

    def seconds(self, wall: float, processor: float) -> tuple[float, float]:
        walls, processors = self._total([wall, processor])
        return walls / self.size, processors

    def any(self, *flags: bool) -> tuple[bool, ...]:
        return tuple(value > 0 for value in self._total([float(f) for f in flags], dist.ReduceOp.MAX))

    # ------------------------------------------------------------------------------- gradients

    @torch.no_grad()
    def finish_gradients(self) -> None:
        self._weights.take_gradients()
        gradients = {name: p.grad for name, p in self._weights.items() if p.grad is not None}
        if not self._layout.sharded:
            add_up(list(gradients.values()), self._grid.weight_group)
        if self._partly_known:
            partly = [g for name, g in gradients.items() if name in self._partly_known]
            add_up(partly, self._grid.tensor_group)
        if self._pipeline is not None and self._tied_group is not None:
            add_up([g for name, g in gradients.items() if name == _TABLE], self._tied_group)

    def clip(
        self, parameters: list[nn.Parameter], limit: float, optimizer: torch.optim.Optimizer | None = None
    ) -> float:
        squares = 0.0
        for name, p in self._weights.items():
            if p.grad is not None and not (self._tied and name == _TABLE and self._grid.place.pipeline):
                norm = torch.linalg.vector_norm(p.grad.float()) if p.grad.numel() else 0.0
                squares += float(norm) ** 2 / self._weights.holders(name)
        norm = math.sqrt(self.count(squares))
        if limit and parameters:
            total = torch.tensor(norm, dtype=torch.float32, device=self._device)
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)
        return norm

    # ------------------------------------------------------------------------------- state

    def reseed(self, seed: int, position: int) -> None:
        # the processes of a tensor group draw alike, as their residual streams are, unless each has its own part
        place, layout = self._grid.place, self._layout
        number = self._grid.dealt * layout.context + place.context
        number = number * layout.tensor + (place.tensor if layout.sequence else 0)
        randomness.seed_all(seed_of(seed, position, number * layout.pipeline + place.pipeline))

    def spread(self, name: str, part: torch.Tensor) -> torch.Tensor:
        return self._weights.spread(name, part)

    def cut(self, name: str) -> Cut | None:
        return self._weights.cut(name)

    def check_whole(self, what: str) -> None:
        if self._layout.cuts:
            raise ArrieroError(
                f"parallel: {what} need a whole model in each process, which {self._layout} cuts; leave them out, or "
                "set shard to none and tensor, context and pipeline to 1"
            )

    def finish(self) -> None:
        self._weights.gather()
        if not self.leads:
            raise RankDone


_TABLE = "embedding.weight"
