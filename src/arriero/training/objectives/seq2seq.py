"""Text to text: every token of the target from the source and the target's tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch

from arriero.training.objectives import head
from arriero.training.objectives.base import Batch, Objective, Shape, scored_positions
from arriero.training.objectives.sft import Row, pad_rows


@dataclass(frozen=True)
class Pair:
    """A source and its target, int64 [S] and [T], both with the end token."""

    source: np.ndarray
    target: np.ndarray

    def __len__(self) -> int:
        return len(self.source) + len(self.target)


@dataclass(frozen=True)
class PairShape(Shape):
    """``length`` is that of source and target together; ``source`` of these belong to the source."""

    source: int = 0


@dataclass(frozen=True)
class PairBatch(Batch):
    """A batch whose ``ids`` are what the decoder reads (the start and the target), [B, T].

    Attributes:
        source: int64 [B, S], padded on the right.
        source_mask: bool [B, S], False at padding.
    """

    source: torch.Tensor
    source_mask: torch.Tensor

    @property
    def shape(self) -> PairShape:
        rows, source = self.source.shape
        return PairShape(rows, source + self.ids.shape[1], self.targets.shape[0], False, source)


class Seq2SeqObjective(Objective):
    """Mean cross-entropy over the targets' tokens, their end included.

    Args:
        pairs: the samples.
        start_id: what the decoder reads before the target's first token.
        label_smoothing: share of each target's weight that is spread evenly over the vocabulary
            (Vaswani et al., arXiv 1706.03762, section 5.4: 0.1).
    """

    def __init__(self, pairs: Sequence[Pair], start_id: int, label_smoothing: float = 0.0) -> None:
        self._pairs = pairs
        self._start = start_id
        self._smoothing = label_smoothing
        self._longest_source = max((len(pair.source) for pair in pairs), default=0)
        self._longest_target = 1 + max((len(pair.target) for pair in pairs), default=0)

    def __len__(self) -> int:
        return len(self._pairs)

    def tokens_per_sample(self) -> float:
        return sum(map(len, self._pairs)) / max(1, len(self._pairs))

    def length(self, index: int) -> int:
        return len(self._pairs[index])

    @cached_property
    def source_share(self) -> float:
        """Share of all tokens that is the sources'."""
        total = sum(map(len, self._pairs))
        return sum(len(pair.source) for pair in self._pairs) / total if total else 0.5

    def batch(self, indices: Sequence[int]) -> PairBatch:
        pairs = [self._pairs[i] for i in indices]
        source, source_mask = pad_rows(
            [Row(pair.source, np.ones(len(pair.source), dtype=bool)) for pair in pairs], self._longest_source
        )
        ids, scored = pad_rows([self._target_row(pair) for pair in pairs], self._longest_target)
        positions, targets = scored_positions(ids, scored)
        return PairBatch(
            ids=torch.from_numpy(ids), positions=torch.from_numpy(positions), targets=torch.from_numpy(targets),
            scored=int(scored.sum()), segments=None, tokens=sum(map(len, pairs)),
            source=torch.from_numpy(source), source_mask=torch.from_numpy(source_mask),
        )  # fmt: skip

    def _target_row(self, pair: Pair) -> Row:
        scored = np.arange(1 + len(pair.target)) > 0
        return Row(np.concatenate([[self._start], pair.target]), scored)

    def weight(self, batch: Batch) -> int:
        """Tokens of the targets."""
        return batch.scored

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the smoothed negative log-probabilities in nats; the model is a models.seq2seq.Seq2Seq."""
        assert isinstance(batch, PairBatch)
        memory = model.encode(batch.source, batch.source_mask)
        hidden = model.hidden(batch.ids, memory, batch.source_mask)
        chosen = head.chosen(hidden, batch.positions)
        return head.loss_sum(model, chosen, batch.targets, self._smoothing), {}

    def synthetic(self, shape: Shape) -> PairBatch:
        """A batch of that shape. A shape that does not say how long the source is has this objective's share of it."""
        source = shape.source if isinstance(shape, PairShape) else self._likely_source(shape.length)
        target = Shape(shape.rows, shape.length - source, shape.scored)
        made = super().synthetic(target)
        return PairBatch(
            **{f.name: getattr(made, f.name) for f in fields(Batch)},
            source=torch.zeros(shape.rows, source, dtype=torch.int64),
            source_mask=torch.ones(shape.rows, source, dtype=torch.bool),
        )

    def _likely_source(self, length: int) -> int:
        """Tokens of the source where source and target have so many, neither longer than any that there is."""
        source = round(length * self.source_share)
        if self._pairs:
            source = min(max(source, length - self._longest_target), self._longest_source)
        return min(max(1, source), length - 1)
