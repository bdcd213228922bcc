"""The objective: what a training loop minimises, on which samples.

An objective gives the loop the SUM of its losses and the weight that the sum is to be divided by. The loop
divides by the weight of the whole optimizer step, so that neither the number of micro-batches nor their
uneven lengths change the gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from arriero.training.batches import Order, SampleOrder, SequentialOrder, micro_batches

if TYPE_CHECKING:
    import torch

    from arriero.training.precision import Precision


UNSCORED = -100
"""Target of a position that counts nothing; what torch's cross-entropy passes over by default."""


@dataclass(frozen=True)
class Shape:
    """Size of a batch: rows, tokens a row (padding included), positions that go through the head, and whether
    attention is masked."""

    rows: int
    length: int
    scored: int
    masked: bool = False


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, and which of their positions are scored.

    Attributes:
        ids: int64 [B, T]; shorter rows are padded on the right, which causal attention never looks at.
        positions: int64 [S]: flat positions b * T + t that go through the head; None: all B * T.
        targets: int64 [S]: the token that follows each of them, or UNSCORED.
        scored: how many of the targets are scored.
        segments: int64 [B, T] or None: attention never crosses from one number to another.
        tokens: tokens in the batch, padding left out.
    """

    ids: torch.Tensor
    positions: torch.Tensor | None
    targets: torch.Tensor
    scored: int
    segments: torch.Tensor | None
    tokens: int

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.ids.device

    @property
    def shape(self) -> Shape:
        rows, length = self.ids.shape
        return Shape(rows, length, self.targets.shape[0], self.segments is not None)

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""
        import torch

        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, torch.Tensor)})


class Objective(ABC):
    """One objective over a fixed set of samples."""

    ordered: ClassVar[bool] = False
    """True when the samples must come in their own order, because something is carried from one to the next."""

    drawn_anew: ClassVar[bool] = False
    """True when a sample is another one in each epoch (its masks, its pair): ``batch`` and ``length`` then take
    epoch * len(self) + index, from which both follow. Numbers below len(self) are those of epoch 0."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples in the training set."""

    @abstractmethod
    def batch(self, indices: Sequence[int]) -> Batch:
        """The samples with these indices as tensors on the CPU."""

    @abstractmethod
    def weight(self, batch: Batch) -> int:
        """What the batch's loss sum is divided by to give a mean (scored tokens, pairs)."""

    @abstractmethod
    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the losses, fp32, with its graph; and further sums for the log, detached, of the same weight."""

    def synthetic(self, shape: Shape) -> Batch:
        """A batch of that shape with nothing in it, made by torch alone so that a plan can trace it."""
        import torch

        every = shape.scored == shape.rows * shape.length
        return Batch(
            ids=torch.zeros(shape.rows, shape.length, dtype=torch.int64),
            positions=None if every else torch.zeros(shape.scored, dtype=torch.int64),
            targets=torch.zeros(shape.scored, dtype=torch.int64),
            scored=shape.scored,
            segments=torch.zeros(shape.rows, shape.length, dtype=torch.int64) if shape.masked else None,
            tokens=shape.rows * shape.length,
        )

    @property
    def grows(self) -> bool:
        """True when :meth:`shaped` changes batches."""
        return False

    def shaped(self, batch: Batch, done: float) -> Batch:
        """The batch as it goes through the model when this share of the run (0 to 1) is behind; as it is, for most."""
        return batch

    def head_recomputed(self, scored: int, vocab_size: int) -> int:
        """How often the backward pass works out the head's logits of ``scored`` positions again."""
        return 0

    @abstractmethod
    def tokens_per_sample(self) -> float:
        """Mean tokens a sample is made of."""

    def order(self, seed: int) -> Order:
        """The order in which training sees the samples: a pure function of the seed and the position."""
        if self.ordered:
            return SequentialOrder(len(self))
        return SampleOrder(len(self), seed, numbered=self.drawn_anew)

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """The samples of one step, or of one pass, in micro-batches of at most ``size``."""
        return micro_batches(indices, size, self.length)

    def carried(self) -> dict[str, torch.Tensor]:
        """What is carried from sample to sample, by name: a part of the training's state. Empty for most."""
        return {}

    def carry(self, tensors: Mapping[str, torch.Tensor]) -> None:  # noqa: B027 - nothing to do is right for most
        """Put back what :meth:`carried` gave."""

    def length(self, index: int) -> int:
        """Length of a sample in tokens, where samples differ; those of like length share a micro-batch."""
        return 0

    def first_step_fault(self, means: dict[str, float], precision: Precision) -> str | None:
        """What is wrong with the first step's means, which are known before anything is updated; or None."""
        return None


SCORED_STEP = 64
"""Scored positions are filled up to a multiple of it: the matrix library makes and keeps kernels for each new shape."""


def scored_positions(ids: Any, scored: Any) -> tuple[Any, Any]:
    """(flat positions, targets) of the tokens ``scored`` says count, both int64 [S], from arrays [B, T].

    A token at t is scored at the position before it, t - 1; a row's first token has none and is never scored.
    S is a multiple of SCORED_STEP; what fills it up is position 0 with the target UNSCORED.
    """
    import numpy as np

    rows, columns = np.nonzero(scored[:, 1:])
    missing = -len(rows) % SCORED_STEP
    positions = np.concatenate([rows * ids.shape[1] + columns, np.zeros(missing, dtype=np.int64)])
    targets = np.concatenate([ids[rows, columns + 1], np.full(missing, UNSCORED)])
    return positions, targets.astype(np.int64)
