"""One stage of a pipeline by itself: its modules, in the order of the schedule, between buffers for its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

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


def run_stage(pipeline: Pipeline, objective: Any, shares: Sequence[Share], weight: int, work: Work) -> None:
    """As ``Pipeline.accumulate``, of the stage that this process has."""
    ids, segments, shares = pipeline._stacked(shares)
    place, count = pipeline._grid.place.pipeline, len(shares)
    batches = ids.chunk(count)
    masks = [None] * count if segments is None else segments.chunk(count)
    wide = (*batches[0].shape, pipeline._stage.model.config.d_model)
    # torch's PipelineStage makes those of all micro-batches at once
    received = [] if pipeline._first else [torch.empty(wide).requires_grad_() for _ in batches]
    gradients = [] if pipeline._last else [torch.empty(wide) for _ in batches]
    waiting: dict[int, Tensor] = {}
    results: list[Tensor] = []
    for forward, number in stage_order(work.settings.parallel.schedule, place, pipeline._of, count):
        if not forward:
            result = waiting.pop(number)
            result.backward(None if pipeline._last else gradients[number])
            if received:
                received[number].grad = None  # sent to the stage before
            continue
        with autocast(work.precision):
            x = batches[number] if pipeline._first else received[number]
            out = pipeline._stage(x, masks[number])
            if pipeline._last:
                results.append(out)
                view = _Received(pipeline._view, out)
                out = objective.inner.loss_sum(view, shares[number].part)[0] / weight
            waiting[number] = out
    if results:
        torch.cat(results)  # the schedule gives what the last stage made
