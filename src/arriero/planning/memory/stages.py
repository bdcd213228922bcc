"""Every moment of a step in a pipeline's stage as straight lines, from traces of the shallowest pipelines.

A stage runs the code of the whole model's blocks, but other things come and go beside them: buffers for what neighbours
send, micro-batches that wait for their gradients. Stages in between are alike but for how many of these wait, so one of
each kind (the first, one in between, the last) tells of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from arriero.cost.memory.profile import CLASSES, MemoryProfile, Moment, StagePart, few_blocks
from arriero.models.config import ModelConfig
from arriero.planning.counts.depths import Depths, Kind
from arriero.planning.memory.corners import Corners, corners_of, head_corners, named
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.log import BACKWARD, BEFORE, START, UPDATE, Label, Stretch
from arriero.planning.memory.profile import events_of, moment_at, moments_of
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import Layout
from arriero.training.traced import Work

_WAITING: Label = ("waiting",)
_EARLY: Label = ("early",)
_STAGES: Mapping[StagePart, int] = {"first": 2, "middle": 3, "last": 2}
"""Stages of the shallowest pipeline that has such a part, in which two micro-batches are under way, or one at the end."""


def stage_profile(
    work: Work, shape: Shape, layout: Layout, part: StagePart, blocks: int = 0
) -> MemoryProfile:
    """Moments of one stage, with one micro-batch under way, and what each further one keeps. What a block adds is one of
    the stage's; the rest is what it has beside its blocks.

    Args:
        layout: without the pipeline, of the processes of which the first is meant.
        blocks: of the stage that is meant, where these are few; 0: any other number.

    Raises:
        ArrieroError: the model cannot be trained with these settings, or be cut this way.
    """
    stages, last = _STAGES[part], part == "last"
    grid, rank = replace(layout, pipeline=stages), {"first": 0, "middle": 1, "last": 1}[part] * layout.size
    under_way, micro = (
        (1, 2) if last else (2, 3)
    )  # of so many micro-batches a step, one more than are under way

    @cache
    def trace(config: ModelConfig, rows: int) -> dict[Label, Stretch]:
        one = replace(shape, rows=rows, scored=rows * shape.scored)
        found = named(logged_rank(work, config, [one] * micro, grid, rank).log.stretches())
        return found if last else _alone(found)

    def profile(corners: Corners) -> MemoryProfile:
        labels = [x for x in corners.labels if x not in (_WAITING, _EARLY) and _turn(x, under_way) < 2]
        found = MemoryProfile(*moments_of(corners, lambda label: not _turn(label, under_way), labels))
        if last:
            return found
        ends = [x for x in corners.labels if layout.sharded and x[:2] == (BEFORE, 2)]
        _, closing = moments_of(corners, lambda label: False, ends)
        return replace(found, waiting=_kept(corners, _WAITING), early=_kept(corners, _EARLY), closing=closing)

    blocks = blocks or few_blocks(layout.sharded)

    def drawn(rows: tuple[int, int]) -> Corners:
        depths = _depths(work, stages, blocks)
        return Corners(trace, depths, rows, micro, lambda d: _depths(work, stages, blocks + 1))

    corners, many = corners_of(work, shape, layout.sequence, drawn)
    if last:
        corners.bend(head_corners(work, shape.scored, layout))
    found = profile(corners)
    return replace(found, single=profile(corners.single())) if many else found


def _depths(work: Work, stages: int, shallow: int) -> Depths:
    """``shallow`` blocks in each stage, and one more; the whole is a stage with all blocks of the model."""
    config, layers = work.config, work.config.n_layers  # type: ignore[attr-defined]
    few, more = (config.model_copy(update={"n_layers": n * stages}) for n in (shallow, shallow + 1))
    return Depths(few, (Kind(more, layers, shallow, layers),))


def _alone(found: Mapping[Label, Stretch]) -> dict[Label, Stretch]:
    """As if the micro-batch at work were the only one under way; what one that waits keeps is in the stretch ``waiting``,
    and in ``early`` what is held of those that were sent before the first gradient came."""
    micro_batch = np.array([name != "unsharded" for name in CLASSES])  # weights are gathered for all of them
    waiting = (found[START, 1].bytes[0] - found[START, 0].bytes[0]) * micro_batch
    # the third backward pass begins with one less under way, and without that
    second, third = (_begins(found, batch) for batch in (1, 2))
    early = (second - third - waiting) * micro_batch
    alone = {
        label: stretch
        if label[0] == UPDATE or label[:2] == (BEFORE, 2)
        else Stretch(stretch.label, stretch.bytes - waiting)
        for label, stretch in found.items()
    }
    return {**alone, _WAITING: Stretch(_WAITING, waiting[None]), _EARLY: Stretch(_EARLY, early[None])}


def _begins(found: Mapping[Label, Stretch], batch: int) -> np.ndarray:
    """Bytes by class where the backward pass of a micro-batch begins."""
    label = next(x for x in found if x[:2] == (BACKWARD, batch) and x[3:] == ("last", 0))
    return found[label].bytes[0]


def _turn(label: Label, under_way: int) -> int:
    """0: no gradient is there before; 1: they are; 2: not the time at which most micro-batches are under way."""
    if label[0] == UPDATE:
        return 0
    turn = label[1] - (0 if label[0] in (BACKWARD, BEFORE) else under_way - 1)
    return turn if turn in (0, 1) else 2


def _kept(corners: Corners, label: Label) -> Moment:
    pairs: list[list[np.ndarray]] = [
        [traces[rows][label].bytes for rows in corners.rows] for traces in (corners.base, *corners.more)
    ]
    return moment_at(events_of(corners, label, pairs), 0, "forward", 1)
