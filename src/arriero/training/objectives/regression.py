"""Numbers told from a text: a text's position on the map, its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from arriero.training.objectives.base import Batch, Objective, Shape
from arriero.training.objectives.regression_loss import Loss, error_sum
from arriero.training.objectives.sft import Row, pad_rows


@dataclass(frozen=True)
class Numbered:
    """A text's ids, int64 [T], special tokens included, and its numbers, float [N]; NaN: not known."""

    ids: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class NumberedBatch(Batch):
    """Padded texts; no position goes through a head over a vocabulary.

    Attributes:
        attention_mask: bool [B, T], False at padding.
        numbers: fp32 [B, N].
        known: fp32 [B, N], 0 where a number is not known.
    """

    attention_mask: torch.Tensor
    numbers: torch.Tensor
    known: torch.Tensor


class RegressionObjective(Objective):
    """Mean loss of the known numbers; a models.encoder.Encoder for sequence classification tells them.

    Args:
        samples: the texts.
        n_numbers: numbers a text has.
        pad_id: fills up shorter texts.
        loss: see regression_loss.error_sum. delta: where Huber's loss becomes linear.
    """

    def __init__(
        self,
        samples: Sequence[Numbered],
        n_numbers: int,
        pad_id: int,
        *,
        loss: Loss = "squared",
        delta: float = 1.0,
    ) -> None:
        self._samples, self._n_numbers, self._pad = samples, n_numbers, pad_id
        self._loss, self._delta = loss, delta
        self._longest = max((len(sample.ids) for sample in samples), default=0)

    def __len__(self) -> int:
        return len(self._samples)

    def tokens_per_sample(self) -> float:
        return sum(len(sample.ids) for sample in self._samples) / max(1, len(self._samples))

    def length(self, index: int) -> int:
        return len(self._samples[index].ids)

    def weight(self, batch: Batch) -> int:
        """Known numbers."""
        return batch.scored

    def batch(self, indices: Sequence[int]) -> NumberedBatch:
        samples = [self._samples[i] for i in indices]
        ids, real = pad_rows(
            [Row(sample.ids, np.ones(len(sample.ids), dtype=bool)) for sample in samples], self._longest
        )
        ids[~real] = self._pad
        numbers = np.stack([sample.numbers for sample in samples]).astype(np.float32)
        known = ~np.isnan(numbers)
        return NumberedBatch(
            ids=torch.from_numpy(ids), positions=None, targets=torch.empty(0, dtype=torch.int64),
            scored=int(known.sum()), segments=None, tokens=int(real.sum()), attention_mask=torch.from_numpy(real),
            numbers=torch.from_numpy(np.nan_to_num(numbers)), known=torch.from_numpy(known.astype(np.float32)),
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the losses; figure: the sum of absolute errors."""
        assert isinstance(batch, NumberedBatch)
        found = model(batch.ids, attention_mask=batch.attention_mask)
        total = error_sum(found, batch.numbers, batch.known, self._loss, self._delta)
        absolute = error_sum(found.detach(), batch.numbers, batch.known, "absolute", 1.0)
        return total, {"absolute_error": absolute}

    def synthetic(self, shape: Shape) -> NumberedBatch:
        plain = super().synthetic(Shape(shape.rows, shape.length, 0))
        kept = {f.name: getattr(plain, f.name) for f in fields(Batch)} | {"positions": None}
        numbers = torch.zeros(shape.rows, self._n_numbers)
        return NumberedBatch(
            **{**kept, "scored": numbers.numel()},
            attention_mask=torch.ones(shape.rows, shape.length, dtype=torch.bool),
            numbers=numbers, known=torch.ones_like(numbers),
        )  # fmt: skip
