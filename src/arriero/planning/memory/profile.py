"""Every moment of a training step as straight lines, from traces of shallow models with one sequence and with two.

The lines are exact because what lives at a moment is linear in equal blocks and in sequences. Two kinds of moment have
corners in the sequences, and get more points: the head's, which works through its positions a part at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from arriero.cost.memory.profile import CLASSES, Group, MemoryProfile, Moment, Where
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.depths import Depths, depths_of
from arriero.planning.memory.corners import (
    Corners,
    Stretches,
    corners_of,
    head_corners,
    named,
    with_neighbours,
)
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.log import AFTER, BACKWARD, BEFORE, FORWARD, START, UPDATE, Label
from arriero.planning.memory.step import logged_step
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import Layout
from arriero.training.traced import Work

_WHERE: dict[str, Where] = {
    START: "forward", FORWARD: "forward", AFTER: "head", BACKWARD: "backward", BEFORE: "end", UPDATE: "update"
}  # fmt: skip
_ROWS = 2.0 ** np.arange(-3, 13)
"""Micro-batches (of part of a sequence, with context parallelism, up to thousands) at which a stretch's events are
compared; those that are never the largest are dropped."""
_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the depth that a pipeline's stage may have, at which they are compared too."""


def memory_profile(work: Work, shape: Shape, layout: Layout | None = None) -> MemoryProfile:
    """Moments of the steps of ``work`` over micro-batches of sequences like those of ``shape``.

    Args:
        shape: of one sequence (``rows`` 1): its length and its scored positions.
        layout: without a pipeline, of the processes of which the first is meant; None: one alone.

    Raises:
        ArrieroError: the model cannot be trained with these settings, or be cut this way.
    """

    @cache
    def trace(config: ModelConfig, rows: int) -> Stretches:
        micro = replace(shape, rows=rows, scored=rows * shape.scored)
        if layout is None:
            return named(logged_step(work, config, [micro, micro]).log.stretches())
        return named(logged_rank(work, config, [micro, micro], layout).log.stretches())

    def profile(corners: Corners) -> MemoryProfile:
        return MemoryProfile(*moments_of(corners, lambda label: label[0] == UPDATE or label[1] == 0))

    # one sequence alone goes another way where it is gathered along its tokens, or heads are moved beside it
    many = (layout is not None and layout.sequence) or not isinstance(work.config, DecoderConfig)
    depths = depths_of(work.config)
    depths = with_neighbours(depths) if layout is not None and layout.sharded else depths
    corners, many = corners_of(work, shape, many, lambda rows: Corners(trace, depths, rows, 2))
    corners.bend(head_corners(work, shape.scored, layout))
    found = profile(corners)
    return replace(found, single=profile(corners.single())) if many else found


def in_group(profile: MemoryProfile, group: Group) -> MemoryProfile:
    """The profile as that of one of a group."""
    single = None if profile.single is None else in_group(profile.single, group)
    return replace(profile, single=single, group=group)


def moments_of(
    corners: Corners, early: Callable[[Label], bool], labels: Sequence[Label] | None = None
) -> tuple[tuple[Moment, ...], tuple[Moment, ...]]:
    """Moments of the stretches of which ``early`` says that no gradient is there before (and of the update), and of the
    others."""
    first: list[Moment] = []
    later: list[Moment] = []
    for label in corners.labels if labels is None else labels:
        (first if early(label) else later).extend(_moments(corners, label))
    layers = corners.depths.layers
    return _needed(first, layers), _needed(later, layers)


def _needed(moments: list[Moment], layers: int) -> tuple[Moment, ...]:
    """Those that are the largest of their part of the step for some micro-batch, depth or layout."""
    kept: set[int] = set()
    for where in dict.fromkeys(moment.where for moment in moments):
        mine = [n for n, moment in enumerate(moments) if moment.where == where]
        whole, block = (
            np.stack([_columns(moments[n], part) for n in mine]) for part in ("whole", "one_block")
        )
        counts = np.stack([moments[n].counts(_ROWS) for n in mine])
        for weights in _LAYOUTS:
            for share in _SHARES:
                levels = (whole - (1 - share) * layers * block) @ weights
                kept |= {mine[n] for n in np.where(counts, levels, -np.inf).argmax(axis=0)}
    return tuple(moments[n] for n in sorted(kept))


def _columns(moment: Moment, part: str) -> np.ndarray:
    """Bytes [micro-batches of _ROWS, classes]."""
    return np.stack([getattr(moment, part)(name, _ROWS) for name in CLASSES], axis=1)


@dataclass(frozen=True)
class Events:
    """Events of a stretch, [events, classes] each, of the whole model and of what one block adds.

    Attributes:
        one, two: with the first of ``rows`` sequences and with the second.
    """

    label: Label
    rows: tuple[int, int]
    one: np.ndarray
    two: np.ndarray
    block_one: np.ndarray
    block_two: np.ndarray


def _moments(corners: Corners, label: Label) -> list[Moment]:
    """Those events of a stretch that may be the largest, of the whole model."""
    where, wide = _where(label), corners.wide(label)
    found = _events(corners, label, whole=True)
    straight = [
        moment_at(found, event, where, corners.micro) for event in _largest(found, corners.depths.layers)
    ]
    if where != "head" or not wide:
        return straight
    bent = _bent(corners, _events(corners, label, whole=False), wide, where)
    return [
        *(replace(moment, most=corners.corner) for moment in straight),
        replace(bent, least=corners.corner),
    ]


def _where(label: Label) -> Where:
    return _WHERE[label[0]]


def _events(corners: Corners, label: Label, *, whole: bool) -> Events:
    """Events one by one where all traces have the same ones; else the worst of each."""
    base = [corners.base[rows][label].bytes for rows in corners.rows]
    more = [[found[rows][label].bytes for rows in corners.rows] for found in corners.more]
    pairs = [base, *more]
    if not whole or any(len(few) != len(many) for few, many in pairs):
        pairs = [[_worst(found) for found in pair] for pair in pairs]
    elif len({len(few) for few, _ in pairs}) > 1:
        pairs = _aligned(corners.depths, pairs)
    return events_of(corners, label, pairs)


def events_of(corners: Corners, label: Label, pairs: list[list[np.ndarray]]) -> Events:
    """From bytes [events, classes] of the shallow model and of those deeper, each with few sequences and with more."""
    base, *more = pairs
    ends: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    for rows in (0, 1):
        slopes = [pair[rows] - base[rows] for pair in more]
        ends.append(at_depth(corners.depths, base[rows], slopes))
        blocks.append(_one_block(corners.depths, base[rows], slopes))
    return Events(label, corners.rows, ends[0], ends[1], blocks[0], blocks[1])


def _aligned(depths: Depths, pairs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Events of the model that is most like the whole one, and for the others these less what the worst ones differ by."""
    like = len(pairs) - 1 if depths.layers > sum(kind.shallow for kind in depths.kinds) else 0
    few, many = pairs[like]
    return [
        [few - _worst(few) + _worst(pair[0]), many - _worst(many) + _worst(pair[1])]
        if pair is not pairs[like]
        else pair
        for pair in pairs
    ]


def _worst(bytes: np.ndarray) -> np.ndarray:
    return bytes[[int(bytes.sum(axis=1).argmax())]]


_SETS = np.array([name in ("weights", "gradients", "optimizer", "tables") for name in CLASSES])
"""Classes that go by sets of weights, not by how often a block is applied (ALBERT's share them)."""


def at_depth(depths: Depths, base: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
    found = base
    for kind, slope in zip(depths.kinds, slopes, strict=True):
        sets = (
            kind.copies - min(kind.shallow, kind.copies)
            if kind.copies < kind.layers
            else kind.layers - kind.shallow
        )
        missing = np.where(_SETS, sets, kind.layers - kind.shallow)
        found = found + slope * missing
    return found


def _one_block(depths: Depths, base: np.ndarray, slopes: list[np.ndarray]) -> np.ndarray:
    total = np.zeros_like(base)
    for kind, slope in zip(depths.kinds, slopes, strict=True):
        total = total + slope * np.where(_SETS, kind.copies, kind.layers)
    found: np.ndarray = total / depths.layers
    return found


def _weights(**of_class: float) -> np.ndarray:
    return np.array([of_class.get(name, 1.0) for name in CLASSES])


_LAYOUTS = (
    _weights(),
    _weights(weights=0.0, gradients=0.0, optimizer=0.0),
    _weights(weights=0.1, gradients=0.1, optimizer=0.1, inner=0.1, logits=0.1),
    _weights(weights=0.1, gradients=0.1, optimizer=0.1, inner=0.1, stream=0.1, logits=0.1),
)
"""What is left of the classes on one device of typical layouts."""


def _largest(events: Events, layers: int) -> list[int]:
    """Numbers of the events that are the largest for some micro-batch, depth or layout."""
    few, apart = events.rows[0], events.rows[1] - events.rows[0]
    step, block_step = (events.two - events.one) / apart, (events.block_two - events.block_one) / apart
    kept: set[int] = set()
    for weights in _LAYOUTS:
        one, each, block, block_each = (x @ weights for x in (events.one, step, events.block_one, block_step))
        for rows in _ROWS:
            whole, blocks = one + each * (rows - few), layers * (block + block_each * (rows - few))
            kept |= {int((whole - (1 - share) * blocks).argmax()) for share in _SHARES}
    return sorted(kept)


def moment_at(events: Events, event: int, where: Where, micro: int) -> Moment:
    """One event, of a step of ``micro`` micro-batches."""
    points = np.stack([events.one[event], events.two[event]])
    few, many = events.rows
    return Moment(where, (float(few), float(many)), _by_class(points, micro), _lines(events, event))


def _bent(corners: Corners, events: Events, wide: Mapping[int, np.ndarray], where: Where) -> Moment:
    """The worst moment of a stretch with corners; what the blocks add is as straight as elsewhere."""
    rows, unit = [*corners.rows, *wide], events.rows[0]
    few = [_worst(corners.base[n][events.label].bytes)[0] for n in corners.rows]
    deeper = events.one[0] - few[0]
    step = (events.two[0] - few[1] - deeper) / (events.rows[1] - unit)
    points = {
        float(n): shallow + deeper + step * (n - unit)
        for n, shallow in zip(rows, [*few, *wide.values()], strict=True)
    }
    if points.keys() >= set(corners.kink):
        points |= _crossing(points, corners.kink)
    counts = sorted(points)
    return Moment(
        where,
        tuple(counts),
        _by_class(np.stack([points[n] for n in counts]), corners.micro),
        _lines(events, 0),
    )


def _crossing(points: Mapping[float, np.ndarray], kink: list[int]) -> dict[float, np.ndarray]:
    """Where the line through the first two points meets that through the last two; nothing where it is not between."""
    if not kink:
        return {}
    left, right = (points[b] - points[a] for a, b in (kink[:2], kink[2:]))
    apart = float((right - left).sum())
    if apart <= 0:
        return {}
    gap = float((points[kink[1]] - points[kink[3]]).sum())
    where = (gap + right.sum() * kink[3] - left.sum() * kink[1]) / apart
    return {float(where): points[kink[1]] + left * (where - kink[1])} if kink[1] < where < kink[2] else {}


def _by_class(points: np.ndarray, micro: int) -> dict[str, tuple[float, ...]]:
    """Columns that are not 0; the batch is that of one of the ``micro`` micro-batches that were traced."""
    scale = np.where(np.array(CLASSES) == "batch", 1 / micro, 1.0)
    columns = (points * scale).T
    return {
        name: tuple(map(float, column)) for name, column in zip(CLASSES, columns, strict=True) if column.any()
    }


def _lines(events: Events, event: int) -> dict[str, tuple[float, float]]:
    few, many = events.rows
    each = (events.block_two[event] - events.block_one[event]) / (many - few)
    once = events.block_one[event] - each * few
    columns = zip(CLASSES, once, each, strict=True)
    return {name: (float(a), float(b)) for name, a, b in columns if a or b}
