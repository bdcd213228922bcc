"""A decoder's blocks cut over the stages of a pipeline (GPipe, arXiv 1811.06965; 1F1B, arXiv 1806.03377)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from arriero.models.decoder import Decoder
from arriero.models.layers.masks import segment_positions
from arriero.training.objectives.base import Objective
from arriero.training.parallel.context import GatheredAttention
from arriero.training.parallel.data import free
from arriero.training.parallel.grid import Grid
from arriero.training.parallel.sequence import cut_batch, pad_right, padded_length
from arriero.training.parallel.shared import Share, SharedObjective
from arriero.training.parallel.view import View
from arriero.training.precision import Precision, autocast

SCHEDULES = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


class NumberedBlocks(nn.Module):
    """Some of a model's blocks under their numbers, so that their parameters keep their names."""

    def __init__(self, blocks: Sequence[nn.Module], first: int) -> None:
        super().__init__()
        for number, block in enumerate(blocks, start=first):
            self.add_module(str(number), block)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._modules[name] for name in self._modules)

    def __getitem__(self, index: int) -> nn.Module:
        return list(self)[index]

    def __len__(self) -> int:
        return len(self._modules)


class Stage(nn.Module):
    """One stage's part of a decoder: ids [B, T] or the stream [B, T, d] -> the stream, or at the end hidden vectors.

    With context parallelism T are this process' tokens, while ``segments`` are of whole sequences. With sequence
    parallelism the stream is [B, T / tensor, d] between stages: each process hands on the part that it has.
    """

    def __init__(self, model: Decoder, grid: Grid) -> None:
        super().__init__()
        self.model = model
        self.first = grid.place.pipeline == 0
        self.context = grid.context_group if grid.layout.context > 1 else None
        self.parts = 1 if self.first else grid.layout.stream_parts
        self.precision: Precision | None = None
        """Of the forward pass alone: a backward pass under autocast would round what the forward pass did not. None: as
        it is around the call."""

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        with nullcontext() if self.precision is None else autocast(self.precision, x.device.type):
            return self._forward(x, segments)

    def _forward(self, x: Tensor, segments: Tensor | None) -> Tensor:
        attention, length = None, x.shape[1] * self.parts
        if self.context is not None:
            attention = GatheredAttention(self.context, length * self.context.size(), segments)
            positions = attention.positions(x.shape[0]).to(x.device)
            segments = None
        else:
            positions = None if segments is None else segment_positions(segments)
        # not kept under a name: it would live through all blocks
        return self.model.body(
            self.model.embed(x, positions) if self.first else x,
            positions=positions, segments=segments, cache=attention, length=length,
        )  # fmt: skip


def cut_blocks(model: Decoder, stage: int, of: int) -> None:
    """Leave in ``model`` what this stage computes: the embedding in the first, norm and head in the last (with a tied
    table the last has it too)."""
    per_stage = len(model.blocks) // of
    start, last = stage * per_stage, stage == of - 1
    own = list(model.blocks)[start : start + per_stage]
    model.blocks = NumberedBlocks(own, start)
    if stage:
        model.positions = model.embedding_norm = None
    if not last:
        model.norm = model.head = model.head_bias = None
    if stage and not (last and model.config.tie_embeddings):
        del model.embedding


class _Received:
    """What an objective sees of the model in the last stage: vectors that are there already, and the head."""

    def __init__(self, view: View | Decoder, hidden: Tensor) -> None:
        self._view = view
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def hidden(self, ids: Tensor, *, segments: Tensor | None = None) -> Tensor:
        return self._hidden[: ids.shape[0], : ids.shape[1]]


class Pipeline:
    """Runs the micro-batches of a step through the stages.

    Args:
        stage: this process' part, cut by FSDP where the layout says so.
        view: gives the head's losses in the last stage.
    """

    def __init__(self, stage: Stage, view: Any, grid: Grid, schedule: str, device: torch.device) -> None:
        place, self._of = grid.place.pipeline, grid.layout.pipeline
        self._first, self._last = place == 0, place == self._of - 1
        self._stage = stage
        self._view = view
        self._grid = grid
        self._device = device
        self._kind = SCHEDULES[schedule]
        self._schedules: dict[tuple[Any, ...], Any] = {}
        self._pending: list[Share] = []
        self._scale = 1.0
        self._figures: dict[int, dict[str, Tensor]] = {}
        self._objective: Any = None

    def accumulate(
        self, model: Any, objective: SharedObjective, batches: Sequence[Share], weight: int, precision: Precision
    ) -> dict[str, Tensor]:  # fmt: skip
        """As ``step.accumulate``; the sums are known in the last stage alone."""
        ids, segments, self._pending = self._stacked(batches, together=True)
        self._scale, self._figures = 1 / weight, {}
        self._objective = objective.inner
        schedule = self._schedule(len(batches), ids, segments is not None)
        others = {} if segments is None else {"segments": segments}
        if self._last:
            others["target"] = torch.arange(len(batches))
        self._stage.precision = precision
        try:
            schedule.step(*((ids,) if self._first else ()), **others, return_outputs=False)
        finally:
            self._stage.precision = None
        sums: dict[str, Tensor] = {}
        for figures in self._figures.values():
            for name, value in figures.items():
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def evaluate(self, objective: Objective, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss sum and figures of one micro-batch, without gradients; known in the last stage alone."""
        ids, segments, [share] = self._stacked([share])
        group, rank = self._grid.pipeline_group, self._grid.place.pipeline
        x = ids
        if not self._first:
            x = torch.empty(self.stream_shape(ids), device=ids.device)
            dist.recv(x, group=group, group_src=rank - 1)
        x = self._stage(x, segments)
        if self._last:
            found = objective.loss_sum(_Received(self._view, x), share.part)
        else:
            dist.send(x.float().contiguous(), group=group, group_dst=rank + 1)
            found = x.new_zeros((), dtype=torch.float32), {}
        if isinstance(self._stage, FSDPModule):
            free(self._stage)
        return found

    def stream_shape(self, ids: Tensor) -> tuple[int, int, int]:
        """Of what a stage receives for ids [B, T]: [B, T / tensor, d_model] where the stream is cut, else all T."""
        rows, length = ids.shape
        return rows, length // self._grid.layout.stream_parts, self._stage.model.config.d_model

    def _stacked(
        self, batches: Sequence[Share], *, together: bool = False
    ) -> tuple[Tensor, Tensor | None, list[Share]]:
        """(ids, segments, shares) of all micro-batches as [n B, T], padded to the same B and T: stages agree on one shape.

        Args:
            together: where weights are cut by FSDP, all pipelines take one shape. A new shape is tried out beforehand,
                which gathers weights, so all must try it in the same step.
        """
        layout, context = self._grid.layout, self._grid.place.context
        rows = max(share.whole.ids.shape[0] for share in batches)
        length = max(share.whole.ids.shape[1] for share in batches)
        segmented = any(share.part.segments is not None for share in batches)
        if together and layout.sharded:
            sizes = torch.tensor([rows, length, int(segmented)], device=self._device)
            dist.all_reduce(sizes, dist.ReduceOp.MAX)
            rows, length, segmented = sizes.tolist()
        length = padded_length(length, layout.length_step)
        shares = list(batches)
        if layout.context > 1:  # pieces of sequences that are all of this length
            shares = [
                one
                if one.part.ids.shape[1] * layout.context == length
                else replace(one, part=cut_batch(one.whole, context, layout.context, length))
                for one in batches
            ]
        ids = torch.cat([_filled(one.part.ids, rows, length // layout.context, 0) for one in shares])
        if not segmented:
            return ids, None, shares
        numbers = (
            torch.zeros_like(one.whole.ids) if one.part.segments is None else one.part.segments
            for one in shares
        )
        return ids, torch.cat([_filled(one, rows, length, -1) for one in numbers]), shares

    def _schedule(self, count: int, ids: Tensor, segmented: bool) -> Any:
        """One for each shape: the first step of a schedule settles the shapes that are sent."""
        key = (count, *ids.shape, segmented)
        if key not in self._schedules:
            place = self._grid.place.pipeline
            stage = PipelineStage(self._stage, place, self._of, self._device, group=self._grid.pipeline_group)
            self._schedules[key] = self._kind(stage, count, loss_fn=self._loss, scale_grads=False)
        return self._schedules[key]

    def _loss(self, hidden: Tensor, number: Tensor) -> Tensor:
        """The loss of micro-batch ``number``, over the step's weight."""
        share = self._pending[int(number)]
        with autocast(self._stage.precision or "fp32", hidden.device.type):
            loss, figures = self._objective.loss_sum(_Received(self._view, hidden), share.part)
        factor = 0.0 if share.filler else 1.0
        # kept by number: a schedule's first step runs one of them beforehand, to learn the shapes
        self._figures[int(number)] = {
            name: value * factor for name, value in {"loss": loss.detach(), **figures}.items()
        }
        result: Tensor = loss * (factor * self._scale)
        return result


def _filled(x: Tensor, rows: int, length: int, value: int) -> Tensor:
    return nn.functional.pad(pad_right(x, length, value), (0, 0, 0, rows - x.shape[0]), value=value)
