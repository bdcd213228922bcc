"""The moments of a training step at which a device may hold most, as straight lines in sequences and in blocks.

What lives at any moment of a step is, to the byte, linear in the number of equal blocks and in the sequences of a
micro-batch; only the head, which works through its positions a part at a time, has corners. So a few traces of shallow
models tell every moment of every depth and micro-batch (``planning.memory_profile`` makes them). The peak is the
largest of the moments: it moves from the head (many positions) to the update (few) as sizes change, which is why no
single line can give it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from arriero.cost.workload import Recompute, Workload

Where: TypeAlias = Literal["forward", "head", "backward", "end", "update"]
"""Forward: up to the end of the last block. Head: from there to the last block's backward pass. End: after that of the first
block. Update: clipping and the optimizer's step."""

CLASSES = ("weights", "gradients", "optimizer", "inner", "entry", "stream", "logits", "unsharded", "batch")
"""Bytes by how layouts cut them. inner: inside attention and feed-forward, between their first products and their last;
entry: what their first products read; stream: all else of width d_model. Together the three are activations."""
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


@dataclass(frozen=True)
class MemoryProfile:
    """Moments of a step.

    Attributes:
        first: with the first micro-batch, where no gradient is there yet; and the update.
        later: with the micro-batches after it, whose gradients are added to those that are there.
        basis: see ``MemoryByKind``.
        waiting: of a pipeline's stage: what each further micro-batch that is under way keeps. early: what is still held of
            one that was sent on before the first gradient came, once its own has come.
        single: the same of micro-batches of one sequence (or a part of one), where these go another way.
    """

    first: tuple[Moment, ...]
    later: tuple[Moment, ...]
    basis: str = "profile"
    waiting: Moment | None = None
    early: Moment | None = None
    single: MemoryProfile | None = None


class CutProfiles(Protocol):
    """Profiles that also know what one process of a tensor group holds."""

    def cut(self, mode: Recompute, tensor: int, sequence: bool) -> MemoryProfile | None:
        """Of one of ``tensor`` processes; None: the model cannot be cut so, or nobody can trace it here.

        Args:
            sequence: the residual stream is cut along the tokens.
        """

    def stage(self, mode: Recompute, tensor: int, sequence: bool, part: StagePart) -> MemoryProfile | None:
        """Of one process of such a group in a pipeline's stage; one of them is a group too."""


def stage_of(
    workload: Workload, mode: Recompute, tensor: int, sequence: bool, part: StagePart
) -> MemoryProfile | None:
    """The profile of a pipeline's stage, where it can be traced."""
    if mode not in workload.memory or not hasattr(workload.memory, "stage"):
        return None
    return cast(CutProfiles, workload.memory).stage(mode, tensor, sequence, part)


def profile_of(
    workload: Workload, mode: Recompute, tensor: int = 1, sequence: bool = False
) -> tuple[MemoryProfile, bool]:
    """(profile of one process of a tensor group, True), or where there is none that of the whole model, and False.

    It is measured where the workload was; else it is made from the workload's summary figures.

    Raises:
        KeyError: the workload says nothing of this kind of recomputation.
    """
    if tensor > 1 and mode in workload.memory and hasattr(workload.memory, "cut"):
        found = cast(CutProfiles, workload.memory).cut(mode, tensor, sequence)
        if found is not None:
            return found, True
    measured = workload.memory.get(mode)
    return (_from_fields(workload, mode) if measured is None else measured), tensor == 1


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
