"""One stage of a pipeline by itself: its modules, in the order of the schedule, between buffers for its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage

from arriero.planning.memory.log import StorageLog
from arriero.planning.memory.step import Watched
from arriero.training.parallel.pipeline import Pipeline, _Received
from arriero.training.parallel.shared import Share
from arriero.training.precision import autocast
from arriero.training.traced import Work


def stage_order(schedule: str, stage: int, of: int, batches: int) -> Iterator[tuple[bool, int]]:
    """(True forward or False backward, micro-batch) in the order of a stage.

    GPipe (arXiv 1811.06965) does all forward passes first; 1F1B (arXiv 1806.03377) as many as it takes for the first
    gradient to come, then one of each.
    """
    ahead = batches if schedule == "gpipe" else min(batches, of - stage)
    yield from ((True, number) for number in range(ahead))
    for number in range(batches):
        yield False, number
        if ahead + number < batches:
            yield True, ahead + number


class StageRun:
    """What ``Pipeline.accumulate`` does in the stage that this process has, from the second step on.

    The buffers for what the neighbours send are those of torch's ``PipelineStage``, which makes one for every micro-batch
    in the first step and keeps them.
    """

    def __init__(self, pipeline: Pipeline, shares: Sequence[Share], work: Work, log: StorageLog) -> None:
        self._pipeline, self._work, self._log = pipeline, work, log
        ids, *_ = pipeline._stacked(shares)
        size = pipeline.stream_shape(ids[: ids.shape[0] // len(shares)])
        dtype = _stream_dtype(pipeline, work)
        self._received = (
            [] if pipeline._first else [torch.empty(size, dtype=dtype).requires_grad_() for _ in shares]
        )
        self._gradients = [] if pipeline._last else [torch.empty(size, dtype=dtype) for _ in shares]
        log.tag([*self._received, *self._gradients], "batch")

    def run(self, objective: Watched, shares: Sequence[Share], weight: int) -> None:
        """One step's forward and backward passes.

        Args:
            objective: whose ``watch`` is told where a micro-batch begins. weight: what the losses are divided by.
        """
        pipeline, watch = self._pipeline, objective.watch
        assert watch is not None
        ids, segments, shares = pipeline._stacked(shares)
        self._log.tag([ids] if segments is None else [ids, segments], "batch")
        place, count = pipeline._grid.place.pipeline, len(shares)
        batches = ids.chunk(count)
        masks = [None] * count if segments is None else segments.chunk(count)
        waiting: dict[int, tuple[Tensor, Tensor]] = {}
        schedule = self._work.settings.parallel.schedule
        output = sent = early = None
        ahead = 0 if pipeline._last or schedule == "gpipe" else min(count, pipeline._of - place)
        for forward, number in stage_order(schedule, place, pipeline._of, count):
            if not forward:
                # gloo holds what was sent last before the first gradient came, until gradients are sent alone
                early = early if number <= count - ahead else None
                # the gradient that was sent before lives until this one is there
                sent = self._backward(number, *waiting.pop(number))
                continue
            watch.start()
            with autocast(self._work.precision):
                # what the schedule gave out last lives until this is there
                output = pipeline._stage(
                    batches[number] if pipeline._first else self._received[number], masks[number]
                )
                result = output
                if pipeline._last:
                    view = _Received(pipeline._view, output)
                    result = objective.inner.loss_sum(view, shares[number].part)[0] / weight
            waiting[number] = result, output
            early = output.detach() if number == ahead - 2 else early
            del result
        del output, sent, early
        if isinstance(pipeline._stage, FSDPModule):
            stage: Any = SimpleNamespace(submod=pipeline._stage)
            PipelineStage.perform_reduce_grad(stage, 1)

    def _backward(self, number: int, result: Tensor, output: Tensor) -> Tensor | None:
        stage = self._pipeline._stage
        if isinstance(
            stage, FSDPModule
        ):  # as PipelineStage does: gradients wait whole for the last micro-batch
            stage.set_is_last_backward(False)
            stage.set_reshard_after_backward(False)
            stage.set_requires_gradient_sync(False)
        result.backward(None if self._pipeline._last else self._gradients[number])
        if not self._received:
            return None
        gradient, self._received[number].grad = self._received[number].grad, None
        return gradient


def _stream_dtype(pipeline: Pipeline, work: Work) -> torch.dtype:
    """Of what stages send: the residual stream, or with norms after the branches what these give."""
    held = next(pipeline._stage.parameters()).dtype
    products = held if work.precision == "fp32" else torch.bfloat16
    post = pipeline._stage.model.config.arrangement == "post"
    return products if post else torch.promote_types(held, products)
