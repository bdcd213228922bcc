"""Every moment of a training step as straight lines, from traces of shallow models with one sequence and with two.

The lines are exact because what lives at a moment is linear in equal blocks and in sequences. Two kinds of moment have
corners in the sequences, and get more points: the head's, which works through its positions a part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.cost.memory.profile import CLASSES, MemoryProfile, Moment, Where
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.planning.counts.depths import Depths, depths_of
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.log import AFTER, BACKWARD, BEFORE, FORWARD, START, UPDATE, Label, Stretch
from arriero.planning.memory.step import logged_step
from arriero.training.objectives.base import SCORED_STEP, Shape
from arriero.training.objectives.dpo import DpoObjective
from arriero.training.objectives.head import BLOCK_LOGITS, block_rows, plain_table
from arriero.training.objectives.linear_head import CACHED_SCORES, rows_at_once
from arriero.training.objectives.next_token import NextToken
from arriero.training.parallel.layout import Layout
from arriero.training.traced import Work

_WHERE: dict[str, Where] = {
    START: "forward", FORWARD: "forward", AFTER: "head", BACKWARD: "backward", BEFORE: "backward", UPDATE: "update"
}  # fmt: skip
_MOST_ROWS = 4096
"""Sequences of a trace at most; the head's corners lie below, but for heads that are hardly used."""
_ROWS = 2.0 ** np.arange(-3, 13)
"""Micro-batches (of part of a sequence, with context parallelism, up to thousands) at which a stretch's events are
compared; those that are never the largest are dropped."""
_SHARES = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the depth that a pipeline's stage may have, at which they are compared too."""

Stretches = Mapping[Label, Stretch]


def memory_profile(work: Work, shape: Shape, layout: Layout | None = None) -> MemoryProfile:
    """Moments of the steps of ``work`` over micro-batches of sequences like those of ``shape``.

    Args:
        shape: of one sequence (``rows`` 1): its length and its scored positions.
        layout: of a tensor group, of which the first process is meant; None: one process alone.

    Raises:
        ArrieroError: the model cannot be trained with these settings, or be cut this way.
    """
    corners = _Corners(work, shape, layout)
    first: list[Moment] = []
    later: list[Moment] = []
    for label in corners.labels:
        found = _moments(corners, label)
        (later if label[0] != UPDATE and label[1] == 1 else first).extend(found)
    layers = corners.depths.layers
    return MemoryProfile(_needed(first, layers), _needed(later, layers))


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


class _Corners:
    """Traces of a shallow model and of one deeper by a block of each kind, with few sequences and with more, as named
    stretches.

    Attributes:
        rows: the two numbers of sequences. base: by these. more: by kind of block, then by these.
    """

    def __init__(self, work: Work, shape: Shape, layout: Layout | None) -> None:
        self._work, self._shape, self._layout = work, shape, layout
        unit = 2 if isinstance(work.objective, DpoObjective) else 1  # pairs
        self.rows = sample_rows(shape, unit)
        depths = depths_of(work.config)
        self.base = self._traces(depths.base)
        if depths.layers > 1 and not any(label[0] == BEFORE for label in self.base[self.rows[0]]):
            # nothing is trained below the blocks, so the first of them does less than the others: not the only one then
            depths = deeper(depths)
            self.base = self._traces(depths.base)
        self.depths = depths
        self.more = [self._traces(kind.more) for kind in depths.kinds]
        others = [found for traces in (self.base, *self.more) for found in traces.values()]
        self.labels = [label for label in self.base[self.rows[0]] if all(label in found for found in others)]
        bends, wide, self.kink = _head_corners(work, depths.base, shape.scored, cut=layout is not None)
        """Four numbers of sequences: two just after the head's first part is full, two just before its second is. What is
        the largest changes from one line to another between them."""
        few, many = self.rows
        bend = next((x for x in bends if x > few), math.inf)
        self.corner = float(int(bend)) if many <= bend < math.inf else few if bend < many else math.inf
        """Sequences up to which every event of the head goes along its line."""
        wide = [n for n in {n - n % unit for n in wide} if many < n <= _MOST_ROWS]
        self._wide = {n: self._trace(depths.base, n) for n in sorted(wide)}

    def _traces(self, config: ModelConfig) -> dict[int, Stretches]:
        return {rows: self._trace(config, rows) for rows in self.rows}

    def _trace(self, config: ModelConfig, rows: int) -> Stretches:
        one = self._shape
        micro = replace(one, rows=rows, scored=rows * one.scored)
        if self._layout is None:
            return named(logged_step(self._work, config, [micro, micro]).log.stretches())
        return named(logged_rank(self._work, config, [micro, micro], self._layout).log.stretches())

    def wide(self, label: Label) -> dict[int, np.ndarray]:
        """The worst event of a stretch with many sequences, by how many."""
        return {rows: found[label].worst for rows, found in sorted(self._wide.items()) if label in found}


def sample_rows(shape: Shape, unit: int) -> tuple[int, int]:
    """Two numbers of sequences whose products go the same way: numbers of rows that are multiples of 16 and others may
    go to different libraries (``arriero.products``), of which one copies more. Scored positions come in such multiples."""
    like = shape.length % 16 == 0

    def fits(rows: int) -> bool:
        every = shape.scored == shape.length
        return (rows * shape.length % 16 == 0) == like and (every or rows * shape.scored % 16 == 0)

    found = [rows for rows in range(unit, 64 * unit + 1, unit) if fits(rows)]
    return (found[0], found[1]) if len(found) > 1 else (unit, 2 * unit)


def deeper(depths: Depths) -> Depths:
    """With one block more in all its models; as it is where there are several kinds."""
    if len(depths.kinds) != 1:
        return depths
    (kind,) = depths.kinds
    layers = kind.shallow + 2
    more = kind.more.model_copy(update={"n_layers": layers})
    return Depths(kind.more, (replace(kind, more=more, shallow=kind.shallow + 1),))


def _head_corners(
    work: Work, config: ModelConfig, scored: int, cut: bool
) -> tuple[list[float], list[int], list[int]]:
    """Sequences at which a head that works through positions in parts has its corners, those to trace for it, and those
    of the latter that lie between its first part and its second. A head that is ``cut`` has parts of another size."""
    dtype = torch.float32 if work.precision == "fp32" else torch.bfloat16
    with FakeTensorMode():
        plain = not cut and plain_table(build_model(config)) is not None
        plain = plain and isinstance(work.objective, NextToken)
    part = rows_at_once(config.vocab_size, dtype) if plain else block_rows(config.vocab_size)
    cached = max(1, CACHED_SCORES // config.vocab_size)
    ends = [part, *((n for n in (cached, 2 * cached) if n < part) if plain else ())]
    beyond = [part + SCORED_STEP, 2 * part, 3 * part]
    if isinstance(work.objective, DpoObjective):
        kept = 4 * BLOCK_LOGITS // config.vocab_size
        ends, beyond = [*ends, kept], [*beyond, kept + SCORED_STEP]
    corners = sorted(end / max(1, scored) for end in ends)
    rows = {int(x) for x in corners} | {math.ceil(x) for x in corners}
    rows |= {-(-end // max(1, scored)) for end in beyond}
    first, second = -(-(part + SCORED_STEP) // max(1, scored)), 2 * part // max(1, scored)
    kink = [first, first + 1, second - 1, second]
    if kink[1] >= kink[2] or second * scored != 2 * part:
        kink = []  # too few numbers of sequences lie there for anything to be between
    return corners, sorted(rows | set(kink)), kink


def named(stretches: list[Stretch]) -> dict[Label, Stretch]:
    """By labels that mean the same at every depth: calls are numbered from the first and from the last."""
    calls: dict[tuple[int, str], int] = {}
    for stretch in stretches:
        if stretch.label[0] == FORWARD:
            _, batch, kind, number = stretch.label
            calls[batch, kind] = max(calls.get((batch, kind), 0), number + 1)
    found: dict[Label, Stretch] = {}
    for stretch in stretches:
        for label in _names(stretch.label, calls):
            found.setdefault(label, stretch)
    return found


def _names(label: Label, calls: Mapping[tuple[int, str], int]) -> list[Label]:
    if len(label) < 4:
        return [label]
    phase, batch, kind, number = label
    after = calls[batch, kind] - 1 - number
    if phase == AFTER:  # nothing happens between blocks
        return [] if after else [(phase, batch, kind)]
    # those in the lower half by their number, those in the upper half by their distance from the last
    found: list[Label] = [(phase, batch, kind, "first", number)] if number <= after else []
    return [*found, (phase, batch, kind, "last", after)] if after <= number else found


@dataclass(frozen=True)
class _Events:
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


def _moments(corners: _Corners, label: Label) -> list[Moment]:
    """Those events of a stretch that may be the largest, of the whole model."""
    where, wide = _where(label), corners.wide(label)
    found = _events(corners, label, whole=True)
    straight = [_moment(found, event, where) for event in _largest(found, corners.depths.layers)]
    if where != "head" or not wide:
        return straight
    bent = _bent(corners, _events(corners, label, whole=False), wide, where)
    return [
        *(replace(moment, most=corners.corner) for moment in straight),
        replace(bent, least=corners.corner),
    ]


def _where(label: Label) -> Where:
    return _WHERE[label[0]]


def _events(corners: _Corners, label: Label, *, whole: bool) -> _Events:
    """Events one by one where all traces have the same ones; else the worst of each."""
    base = [corners.base[rows][label].bytes for rows in corners.rows]
    more = [[found[rows][label].bytes for rows in corners.rows] for found in corners.more]
    pairs = [base, *more]
    if not whole or any(len(few) != len(many) for few, many in pairs):
        pairs = [[_worst(found) for found in pair] for pair in pairs]
    elif len({len(few) for few, _ in pairs}) > 1:
        pairs = _aligned(corners.depths, pairs)
    base, *more = pairs
    ends: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    for rows in (0, 1):
        slopes = [pair[rows] - base[rows] for pair in more]
        ends.append(at_depth(corners.depths, base[rows], slopes))
        blocks.append(_one_block(corners.depths, base[rows], slopes))
    return _Events(label, corners.rows, ends[0], ends[1], blocks[0], blocks[1])


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


_SETS = np.array([name in ("weights", "gradients", "optimizer") for name in CLASSES])
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


def _largest(events: _Events, layers: int) -> list[int]:
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


def _moment(events: _Events, event: int, where: Where) -> Moment:
    points = np.stack([events.one[event], events.two[event]])
    few, many = events.rows
    return Moment(where, (float(few), float(many)), _by_class(points), _lines(events, event))


def _bent(corners: _Corners, events: _Events, wide: Mapping[int, np.ndarray], where: Where) -> Moment:
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
    return Moment(where, tuple(counts), _by_class(np.stack([points[n] for n in counts])), _lines(events, 0))


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


def _by_class(points: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Columns that are not 0; the batch is that of one of the two micro-batches that were traced."""
    scale = np.where(np.array(CLASSES) == "batch", 0.5, 1.0)
    columns = (points * scale).T
    return {
        name: tuple(map(float, column)) for name, column in zip(CLASSES, columns, strict=True) if column.any()
    }


def _lines(events: _Events, event: int) -> dict[str, tuple[float, float]]:
    few, many = events.rows
    each = (events.block_two[event] - events.block_one[event]) / (many - few)
    once = events.block_one[event] - each * few
    columns = zip(CLASSES, once, each, strict=True)
    return {name: (float(a), float(b)) for name, a, b in columns if a or b}
