"""One block, one sequence: differences of traces of shallow models and small micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from arriero.cost.workload import Recompute
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.depths import Depths
from arriero.planning.counts.passes import NOTHING, Passes, as_head, passes
from arriero.planning.counts.subject import Subject
from arriero.training.objectives.head import block_rows, recomputes
from arriero.training.objectives.linear_head import rows_at_once


@dataclass(frozen=True)
class Rows:
    """What one sequence takes, and what a micro-batch takes once."""

    each: Passes = NOTHING
    once: Passes = NOTHING

    def plus(self, other: Rows, factor: float = 1.0) -> Rows:
        return Rows(self.each + other.each * factor, self.once + other.once * factor)

    def less(self, other: Rows) -> Rows:
        return self.plus(other, -1.0)


@dataclass(frozen=True)
class Blocks:
    """One block, what is beside the blocks and the head, and the model whose backward pass takes most besides."""

    one: Rows
    rest: Rows
    work: Rows


def blocks_of(depths: Depths, subject: Subject, mode: Recompute) -> Blocks:
    """One block in the mean over the kinds there are."""

    def measure(config: ModelConfig) -> Rows:
        return _by_rows(subject, lambda rows: passes(subject, config, rows, mode=mode))

    base = measure(depths.base)
    more = [measure(kind.more) for kind in depths.kinds]
    one, whole = Rows(), base
    for kind, found in zip(depths.kinds, more, strict=True):
        added = found.less(base)
        one = one.plus(added, kind.layers / depths.layers)
        whole = whole.plus(added, kind.layers - kind.shallow)
    # a mean of several kinds is rounded, and what that takes from the whole is the rest's
    rest = whole.plus(one, -depths.layers) if depths.kinds else whole
    return Blocks(one, rest, max(more, key=lambda found: found.each.backward_peak, default=base))


_FEW, _MANY = 2, 3
"""Units of sequences that are traced. With a single one some copies are left out that all the others take."""


def _by_rows(subject: Subject, measure: Callable[[int], Passes]) -> Rows:
    few, many = measure(_FEW * subject.unit), measure(_MANY * subject.unit)
    one = many - few
    return Rows(one * (1 / subject.unit), few - one * _FEW)


def head_of(config: ModelConfig, subject: Subject) -> tuple[Rows, float]:
    """The head and the loss, and their most bytes over what they keep.

    What the loss makes of the gradient already is the backward pass's.
    """
    near, far = _positions(config, subject)
    context = getattr(config, "context_length", None)
    if context is not None and far > context:  # nothing of the head depends on how long a sequence may be
        config = config.model_copy(update={"context_length": far})
    peak = passes(subject.with_scored(far or subject.scored), config, subject.unit, head=True).forward_peak
    if near == far:
        return _by_rows(subject, lambda rows: _head(config, subject, rows)), peak
    few, many = (_head(config, subject.with_scored(n), subject.unit) for n in (near, far))
    one = (many - few) * (1 / ((far - near) * subject.unit))
    return Rows(one * subject.scored, few - one * (near * subject.unit)), peak


def _positions(config: ModelConfig, subject: Subject) -> tuple[int, int]:
    """Two numbers of scored positions a sequence between and beyond which the head is linear; alike: all there are.

    The head works through its positions part by part, the first of which is cheaper than the others.
    """
    vocabulary, scored = config.vocab_size, subject.scored
    if subject.objective == "dpo":  # logits of few positions are kept, those of many worked out again
        part = block_rows(vocabulary)
        if scored * subject.unit > 6 * part:
            return 5 * part, 6 * part
        return (
            (scored, 2 * scored)
            if recomputes(scored * subject.unit, vocabulary)
            else (max(1, scored // 2), scored)
        )
    part = block_rows(vocabulary)
    if isinstance(config, DecoderConfig):
        part = rows_at_once(vocabulary, torch.float32 if subject.dtype == "fp32" else torch.bfloat16)
    return (part, 2 * part) if scored > 2 * part else (scored, scored)


def _head(config: ModelConfig, subject: Subject, rows: int) -> Passes:
    """Of so many sequences: with the head less without it."""
    both = passes(subject, config, rows, head=True) - passes(subject, config, rows)
    first = passes(subject, config, rows, head=True, train=False) - passes(subject, config, rows, train=False)
    made = both.forward + both.backward
    return as_head(replace(both, forward=first.forward, backward=made - first.forward))
