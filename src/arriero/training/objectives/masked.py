"""Masked language modelling: tell the hidden tokens of a row from all the others, alone or beside a pair of segments.

Dynamic masking (Liu et al., arXiv 1907.11692, section 4.1) draws a row's mask, and its pair, anew in each epoch; static
masking (Devlin et al., arXiv 1810.04805) has a number of copies of the data, each masked once, that come round again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from arriero.training.objectives import head
from arriero.training.objectives.base import SCORED_STEP, UNSCORED, Batch, Objective, Shape
from arriero.training.objectives.draws import Draws
from arriero.training.objectives.masked_rows import Row, Rows
from arriero.training.objectives.masking import Masking
from arriero.training.objectives.sft import LENGTH_STEP


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Rows with hidden tokens; ``positions`` are theirs, ``targets`` what stood there.

    Attributes:
        attention_mask: bool [B, T], False at padding; None: there is none.
        types: int64 [B, T], the segment of each token; None: all in the first.
        pair: int64 [B], label of each row's two segments; None: rows are no pairs.
    """

    attention_mask: torch.Tensor | None = None
    types: torch.Tensor | None = None
    pair: torch.Tensor | None = None

    @property
    def shape(self) -> Shape:
        rows, length = self.ids.shape
        return Shape(rows, length, self.targets.shape[0], self.attention_mask is not None)


class MaskedObjective(Objective):
    """Mean cross-entropy of the hidden tokens; with pairs, plus the mean cross-entropy of their labels.

    A step's loss is divided by its hidden tokens. A pair's loss is therefore counted as often as a row has hidden
    tokens on the average, so that both means weigh alike (BERT's and ALBERT's loss is their sum).

    Args:
        rows: what is read.
        masking: which tokens are hidden.
        pad_id: fills up shorter rows.
        seed: with the epoch and the row's number it decides on every mask and pair.
        copies: 0: drawn anew in every epoch; else so many draws that come round again (BERT: 10).
    """

    drawn_anew: ClassVar[bool] = True

    def __init__(self, rows: Rows, masking: Masking, pad_id: int, *, seed: int, copies: int = 0) -> None:
        self._rows, self._masking, self._pad = rows, masking, pad_id
        self._seed, self._copies = seed, copies
        self._longest = rows.longest
        self._pair_weight = masking.share * rows.mean_length()

    def __len__(self) -> int:
        return len(self._rows)

    def tokens_per_sample(self) -> float:
        return self._rows.mean_length()

    def length(self, index: int) -> int:
        return self._rows.length(index % len(self))

    def weight(self, batch: Batch) -> int:
        """Hidden tokens."""
        return batch.scored

    def sample(self, number: int) -> tuple[Row, np.ndarray, np.ndarray]:
        """(the row, its ids with tokens hidden, places of the hidden tokens) of epoch * len(self) + index."""
        epoch, index = divmod(number, len(self))
        draws = Draws(self._seed, epoch % self._copies if self._copies else epoch, index)
        row = self._rows.row(index, draws)
        return row, *self._masking.apply(row.ids, draws)

    def batch(self, indices: Sequence[int]) -> MaskedBatch:
        samples = [self.sample(number) for number in indices]
        lengths = np.array([len(row.ids) for row, _, _ in samples])
        longest = min(self._longest, math.ceil(lengths.max() / LENGTH_STEP) * LENGTH_STEP)
        ids = np.full((len(samples), longest), self._pad, dtype=np.int64)
        types = np.zeros((len(samples), longest), dtype=np.int64)
        positions, targets = [], []
        for number, (row, hidden, places) in enumerate(samples):
            ids[number, : len(hidden)] = hidden
            if row.types is not None:
                types[number, : len(hidden)] = row.types
            positions.append(number * longest + places)
            targets.append(row.ids[places])
        scored = sum(map(len, targets))
        fill = -scored % SCORED_STEP
        padded = bool((lengths < longest).any())
        return MaskedBatch(
            ids=torch.from_numpy(ids),
            positions=torch.from_numpy(np.concatenate([*positions, np.zeros(fill, dtype=np.int64)])),
            targets=torch.from_numpy(np.concatenate([*targets, np.full(fill, UNSCORED)]).astype(np.int64)),
            scored=scored, segments=None, tokens=int(lengths.sum()),
            attention_mask=torch.from_numpy(np.arange(longest) < lengths[:, None]) if padded else None,
            types=torch.from_numpy(types) if self._rows.paired else None,
            pair=torch.tensor([row.pair for row, _, _ in samples]) if self._rows.paired else None,
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the negative log-probabilities in nats; the model is a models.encoder.Encoder."""
        assert isinstance(batch, MaskedBatch)
        hidden = model.hidden(batch.ids, attention_mask=batch.attention_mask, segments=batch.types)
        masked = head.loss_sum(model, head.chosen(hidden, batch.positions), batch.targets)
        if batch.pair is None:
            return masked, {}
        pair = F.cross_entropy(model.pair_logits(hidden).float(), batch.pair, reduction="sum")
        pair = self._pair_weight * pair
        return masked + pair, {"masked_loss": masked.detach(), "pair_loss": pair.detach()}

    def synthetic(self, shape: Shape) -> MaskedBatch:
        plain = super().synthetic(Shape(shape.rows, shape.length, shape.scored))
        kept = {f.name: getattr(plain, f.name) for f in fields(Batch)}
        none = torch.zeros(shape.rows, shape.length, dtype=torch.int64)
        return MaskedBatch(
            **kept,
            attention_mask=torch.ones(shape.rows, shape.length, dtype=torch.bool) if shape.masked else None,
            types=none if self._rows.paired else None,
            pair=torch.zeros(shape.rows, dtype=torch.int64) if self._rows.paired else None,
        )
