"""The moments of a training step at which a device may hold most, as straight lines in sequences and in blocks.

What lives at any moment of a step is, to the byte, linear in the number of equal blocks and in the sequences of a
micro-batch; only the head, which works through its positions a part at a time, has corners. So a few traces of shallow
models tell every moment of every depth and micro-batch (``planning.memory_profile`` makes them). The peak is the
largest of the moments: it moves from the head (many positions) to the update (few) as sizes change, which is why no
single line can give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from arriero.cost.workload import Recompute, Workload

Where: TypeAlias = Literal["forward", "head", "backward", "end", "update"]
"""Forward: up to the end of the last block. Head: from there to the last block's backward pass. End: after that of the first
block. Update: clipping and the optimizer's step."""

CLASSES = (
    "weights", "gradients", "optimizer", "tables", "inner", "entry", "stream", "logits", "unsharded", "batch"
)  # fmt: skip
"""Bytes by how layouts cut them. tables: beside the weights, whole in every process (rotary angles); inner: inside
attention and feed-forward, between their first products and their last; entry: what their first products read; stream:
all else of width d_model. Together the last three are activations."""
NEIGHBOURS = 3
"""Blocks from which on there are all that FSDP has in hand at once: one at work, one that is fetched, one whose gradient is on
its way."""
ACTIVATIONS = ("inner", "entry", "stream")

StagePart: TypeAlias = Literal["first", "middle", "last"]
"""Kinds of a pipeline's stages: with the embedding, with blocks alone, with the head."""

Line: TypeAlias = tuple[float, float]
"""(bytes once, bytes for each sequence)."""


@dataclass(frozen=True)
class Moment:
    """What lives at one moment of a step on one device alone.

    Attributes:
        rows: sequences of a micro-batch for which ``bytes`` are known, rising; between and beyond them go lines.
        bytes: by class, one for each of ``rows``; of the whole model.
        block: by class, what one of the blocks adds.
        least, most: sequences from which on and up to which there is such a moment.
    """

    where: Where
    rows: tuple[float, ...]
    bytes: Mapping[str, tuple[float, ...]]
    block: Mapping[str, Line]
    least: float = 0.0
    most: float = np.inf

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """Which of these micro-batches have it."""
        found: np.ndarray = (rows >= self.least) & (rows <= self.most)
        return found

    def whole(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Bytes of a class with all blocks."""
        known = self.bytes.get(name)
        return np.zeros_like(rows) if known is None else _along(rows, self.rows, known)

    def one_block(self, name: str, rows: np.ndarray) -> np.ndarray:
        """What one block adds."""
        once, each = self.block.get(name, (0.0, 0.0))
        return once + each * rows


def _along(x: np.ndarray, at: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """The broken line through the points, its ends drawn on."""
    if len(at) == 1:
        return np.full_like(x, values[0])
    nodes, heights = np.asarray(at), np.asarray(values)
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    slope = (heights[left + 1] - heights[left]) / (nodes[left + 1] - nodes[left])
    found: np.ndarray = heights[left] + slope * (x - nodes[left])
    return found


def few_blocks(sharded: bool) -> int:
    """Blocks of a pipeline's stage from which on each further one adds the same. The first reads what the neighbour sent, in
    a buffer that is there anyway; ``sharded``: there are neighbours too."""
    return NEIGHBOURS if sharded else 2


@dataclass(frozen=True)
class Group:
    """The processes among which one was traced; alone, if all is as it is here.

    Attributes:
        tensor: processes that the matrices are cut over; ``sequence``: the residual stream too, along the tokens.
        sharers: that weights and their states are cut over (FSDP), those of ``context`` counted.
        context: that each sequence is cut over.
        copies: there are others with the same weights, whose gradients are added up.
        blocks: of a pipeline's stage, where these are fewer than ``few_blocks``; 0: any other number.
    """

    tensor: int = 1
    sequence: bool = False
    sharers: int = 1
    context: int = 1
    copies: bool = False
    blocks: int = 0

    @property
    def simpler(self) -> tuple[Group, ...]:
        """What the trace of may stand for this one's, from the most like it to the least; this one first."""
        whole = replace(self, sharers=1, blocks=self.blocks if self.blocks < few_blocks(False) else 0)
        uncut = replace(whole, context=1, copies=False)
        return tuple(dict.fromkeys((self, whole, uncut)))


@dataclass(frozen=True)
class MemoryProfile:
    """Moments of a step.

    Attributes:
        first: with the first micro-batch, where no gradient is there yet; and the update.
        later: with the micro-batches after it, whose gradients are added to those that are there.
        basis: see ``MemoryByKind``.
        waiting: of a pipeline's stage: what each further micro-batch that is under way keeps. early: what is still held of
            one that was sent on before the first gradient came, once its own has come.
        closing: of a pipeline's stage that FSDP cuts: the end of the last backward pass, where all gradients are scattered.
        single: the same of micro-batches of one sequence (or a part of one), where these go another way.
        group: the processes among which this was traced.
    """

    first: tuple[Moment, ...]
    later: tuple[Moment, ...]
    basis: str = "profile"
    waiting: Moment | None = None
    early: Moment | None = None
    closing: tuple[Moment, ...] = ()
    single: MemoryProfile | None = None
    group: Group = Group()


class CutProfiles(Protocol):
    """Profiles that also know what one process of a group holds."""

    def cut(self, mode: Recompute, group: Group, part: StagePart | None = None) -> MemoryProfile | None:
        """Of one process of a group, in a pipeline's stage where ``part`` says which; None: the model cannot be cut so, or
        nobody can trace it here."""

    def sharers(self, tensor: int, sharers: int, context: int) -> int:
        """How many are traced to tell what one of ``sharers`` holds, of which ``context`` have parts of one sequence."""


def stage_of(workload: Workload, mode: Recompute, group: Group, part: StagePart) -> MemoryProfile | None:
    """The profile of a pipeline's stage, where it can be traced."""
    return _cut(workload, mode, group, part)


def profile_of(workload: Workload, mode: Recompute, group: Group | None = None) -> tuple[MemoryProfile, bool]:
    """(profile of one process of a group, True), or where there is none that of the whole model, and False.

    It is measured where the workload was; else it is made from the workload's summary figures.

    Raises:
        KeyError: the workload says nothing of this kind of recomputation.
    """
    group = group or Group()
    tensor = group.tensor
    if group != Group():
        found = _cut(workload, mode, group, None)
        if found is not None:
            return found, True
    measured = workload.memory.get(mode)
    return (_from_fields(workload, mode) if measured is None else measured), tensor == 1


def traced_sharers(workload: Workload, tensor: int, sharers: int, context: int) -> int:
    """How many processes that share weights and states are traced for so many; 1 where none can be."""
    memory = workload.memory
    return cast(CutProfiles, memory).sharers(tensor, sharers, context) if hasattr(memory, "sharers") else 1


def _cut(workload: Workload, mode: Recompute, group: Group, part: StagePart | None) -> MemoryProfile | None:
    """Of a group, or of the one most like it that can be traced."""
    if mode not in workload.memory or not hasattr(workload.memory, "cut"):
        return None
    memory = cast(CutProfiles, workload.memory)
    for like in group.simpler:
        found = None if like == Group() and part is None else memory.cut(mode, like, part)
        if found is not None:
            return found
    return None


def _from_fields(workload: Workload, mode: Recompute) -> MemoryProfile:
    parameters, layers = workload.parameters, workload.dimensions.n_layers
    share = parameters.block * layers / max(1, parameters.total)  # of the states in blocks
    trained = float(parameters.trained)
    weights, gradients, states = (
        parameters.weight_bytes, trained * workload.gradient_bytes, trained * workload.state_bytes
    )  # fmt: skip
    saved, once = workload.saved_block[mode], workload.saved_once_block.get(mode, 0.0)
    blocks = {"weights": (weights * share / layers, 0.0), "optimizer": (states * share / layers, 0.0)}
    held = {"weights": weights, "optimizer": states}
    block_gradient = (gradients * share / layers, 0.0)
    head = workload.head_gradient

    def moment(where: Where, *, saved_blocks: float, gradient: float, work: float, logits: float) -> Moment:
        kept = saved_blocks / layers  # 1: of every block
        activations = [
            saved_blocks * (once + saved * rows) + workload.saved_once_rest + workload.saved_rest * rows
            + work * (workload.work_once + workload.work_peak * rows) for rows in (1.0, 2.0)
        ]  # fmt: skip
        return Moment(
            where, (1.0, 2.0),
            {**{name: (value, value) for name, value in held.items()}, "gradients": (gradient, gradient),
             "inner": tuple(activations), "logits": (logits, logits)},
            {**blocks, "inner": (kept * once, kept * saved),
             "gradients": block_gradient if gradient > head else (0.0, 0.0)},
        )  # fmt: skip

    full = float(layers)
    first = (
        moment("head", saved_blocks=full, gradient=head, work=0.0, logits=workload.head_peak),
        moment("backward", saved_blocks=full, gradient=head, work=1.0, logits=0.0),
        moment("backward", saved_blocks=0.0, gradient=gradients, work=1.0, logits=0.0),
    )
    later = tuple(
        moment(m.where, saved_blocks=n, gradient=gradients, work=w, logits=m.bytes["logits"][0])
        for m, n, w in zip(first, (full, full, 0.0), (0.0, 1.0, 1.0), strict=True)
    )
    return MemoryProfile(first, later, "fields")
