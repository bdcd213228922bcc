"""Traces from which straight lines are drawn: of shallow models, with few sequences and with more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.cost.memory.profile import NEIGHBOURS
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.planning.counts.depths import Depths, depths_of
from arriero.planning.memory.log import AFTER, BEFORE, FORWARD, Label, Stretch
from arriero.training.objectives.base import SCORED_STEP, Shape
from arriero.training.objectives.dpo import DpoObjective
from arriero.training.objectives.head import BLOCK_LOGITS, block_rows, plain_table
from arriero.training.objectives.linear_head import CACHED_SCORES, rows_at_once
from arriero.training.objectives.next_token import NextToken
from arriero.training.parallel.layout import Layout
from arriero.training.traced import Work

_MOST_ROWS = 4096
"""Sequences of a trace at most; the head's corners lie below, but for heads that are hardly used."""

Stretches = Mapping[Label, Stretch]


@dataclass(frozen=True)
class Head:
    """Where a head that works through positions in parts has its corners, in sequences.

    Attributes:
        bends: the corners. wide: those to trace for it, but ``unit`` at a time. kink: four of these, two just after its first
            part is full and two just before its second is; what is the largest changes from one line to another between them.
    """

    bends: list[float]
    wide: list[int]
    kink: list[int]
    unit: int


class Corners:
    """Traces of a shallow model and of one deeper by a block of each kind, with few sequences and with more, as named
    stretches.

    Attributes:
        rows: the two numbers of sequences. base: by these. more: by kind of block, then by these. micro: micro-batches of
            a traced step. corner: sequences up to which every event of the head goes along its line.
    """

    def __init__(
        self,
        trace: Callable[[ModelConfig, int], Stretches],
        depths: Depths,
        rows: tuple[int, int],
        micro: int,
        deepen: Callable[[Depths], Depths] | None = None,
    ) -> None:
        self._trace, self.rows, self.micro, self._deepen = trace, rows, micro, deepen
        self._traced: dict[tuple[ModelConfig, int], Stretches] = {}
        self.base = self._traces(depths.base)
        if depths.layers > 1 and not any(label[0] == BEFORE for label in self.base[self.rows[0]]):
            # nothing is trained below the blocks, so the first of them does less than the others: not the only one then
            depths = (deepen or deeper)(depths)
            self.base = self._traces(depths.base)
        self.depths = depths
        self.more = [self._traces(kind.more) for kind in depths.kinds]
        others = [found for traces in (self.base, *self.more) for found in traces.values()]
        self.labels = [label for label in self.base[self.rows[0]] if all(label in found for found in others)]
        self.corner, self.kink = math.inf, list[int]()
        self._wide: dict[int, Stretches] = {}

    def bend(self, head: Head) -> None:
        """Trace the head's corners too."""
        few, many = self.rows
        self.kink = head.kink
        bend = next((x for x in head.bends if x > few), math.inf)
        self.corner = float(int(bend)) if many <= bend < math.inf else few if bend < many else math.inf
        wide = [n for n in {n - n % head.unit for n in head.wide} if many < n <= _MOST_ROWS]
        self._wide = {n: self._trace(self.depths.base, n) for n in sorted(wide)}

    def _traces(self, config: ModelConfig) -> dict[int, Stretches]:
        found = {rows: self._trace(config, rows) for rows in self.rows}
        self._traced.update({(config, rows): traced for rows, traced in found.items()})
        return found

    def alike(self) -> bool:
        """Whether few sequences go the same way as many: one alone may not need a copy where several do. What comes after
        the blocks is not asked: a head works through more positions in more parts (:meth:`bend`)."""
        few, many = (self.base[rows] for rows in self.rows)
        asked = [label for label in few if label[0] != AFTER]
        return all(label in many and len(few[label].bytes) == len(many[label].bytes) for label in asked)

    def single(self) -> Corners:
        """Of micro-batches of one sequence: what is gathered along the tokens then lies as it should without a copy, so
        that there are fewer events. They grow with the sequences (which parts of one do) as these here."""
        few, many = self.rows

        def trace(config: ModelConfig, rows: int) -> Stretches:
            one = self._trace(config, 1)
            less, more = (self._traced[config, n] for n in (few, many))
            return {
                label: Stretch(stretch.label, stretch.bytes + (rows - 1) * (more[label].worst - less[label].worst) / (many - few))
                for label, stretch in one.items()
                if label in less and label in more
            }  # fmt: skip

        return Corners(trace, self.depths, (1, 2), self.micro, lambda depths: depths)

    def wide(self, label: Label) -> dict[int, np.ndarray]:
        """The worst event of a stretch with many sequences, by how many."""
        return {rows: found[label].worst for rows, found in sorted(self._wide.items()) if label in found}


def corners_of(
    work: Work, shape: Shape, many: bool, drawn: Callable[[tuple[int, int]], Corners]
) -> tuple[Corners, bool]:
    """(what ``drawn`` makes of two numbers of sequences, whether one alone goes another way).

    Args:
        many: it is known to. Otherwise its trace is compared with that of more.
    """
    rows = _rows_of(work, shape, many)
    corners = drawn(rows)
    several = _rows_of(work, shape, True)
    if many or rows == several or corners.alike():
        return corners, many
    return drawn(several), True


def _rows_of(work: Work, shape: Shape, many: bool) -> tuple[int, int]:
    """:func:`sample_rows` for an objective: pairs for preferences. ``many``: not one alone."""
    return sample_rows(shape, _unit(work), 1 + many)


def _unit(work: Work) -> int:
    return 2 if isinstance(work.objective, DpoObjective) else 1


def sample_rows(shape: Shape, unit: int, least: int = 1) -> tuple[int, int]:
    """Two numbers of sequences, ``least`` at least, whose products go the same way: numbers of rows that are multiples of 16 and others may
    go to different libraries (``arriero.products``), of which one copies more. Scored positions come in such multiples."""
    like = shape.length % 16 == 0

    def fits(rows: int) -> bool:
        every = shape.scored == shape.length
        return (rows * shape.length % 16 == 0) == like and (every or rows * shape.scored % 16 == 0)

    start = -(-least // unit) * unit
    found = [rows for rows in range(start, 64 * unit + 1, unit) if fits(rows)]
    return (found[0], found[1]) if len(found) > 1 else (start, start + unit)


def deeper(depths: Depths) -> Depths:
    """With one block more in all its models; as it is where there are several kinds."""
    if len(depths.kinds) != 1:
        return depths
    (kind,) = depths.kinds
    layers = kind.shallow + 2
    more = kind.more.model_copy(update={"n_layers": layers})
    return Depths(kind.more, (replace(kind, more=more, shallow=kind.shallow + 1),))


def with_neighbours(depths: Depths) -> Depths:
    """Deep enough for every block to do as in a deep model that FSDP cuts, or as deep as the model is."""
    while len(depths.kinds) == 1 and depths.kinds[0].shallow < min(NEIGHBOURS, depths.layers):
        depths = deeper(depths)
    return depths


def head_corners(work: Work, scored: int, layout: Layout | None) -> Head:
    """Where the head has its corners, with so many scored positions of a sequence. One that is cut over processes has parts
    of another size, and with context each process has its share of the positions."""
    cut = layout is not None and layout.tensor > 1
    scored = scored if layout is None else scored // layout.context
    config = depths_of(work.config).base
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
    return Head(corners, sorted(rows | set(kink)), kink, _unit(work))


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
