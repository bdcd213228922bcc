"""Masked language modelling: tell the hidden tokens of a row from all the others, alone or beside a pair of segments.

Dynamic masking (Liu et al., arXiv 1907.11692, section 4.1) draws a row's mask, and its pair, anew in each epoch; static
masking (Devlin et al., arXiv 1810.04805) has a number of copies of the data, each masked once, that come round again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from arriero.models.layers.attention import attend
from arriero.models.layers.documents import Documents, run_lengths
from arriero.models.layers.masks import AttentionRule, segment_positions
from arriero.training.objectives import head
from arriero.training.objectives.base import SCORED_STEP, UNSCORED, Batch, Objective, Shape
from arriero.training.objectives.draws import Draws
from arriero.training.objectives.masked_rows import Row, Rows
from arriero.training.objectives.masking import Masking
from arriero.training.objectives.packing import area, as_plain_rows, even_parts, padded_to, smaller


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Rows with hidden tokens; ``positions`` are theirs, ``targets`` what stood there.

    With ``segments`` rows hold several documents, which do not see each other; positions begin anew with each.

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
        if self.segments is not None:
            return as_plain_rows(self.segments, self.targets.shape[0])
        rows, length = self.ids.shape
        return Shape(rows, length, self.targets.shape[0], self.attention_mask is not None)


class _ByDocument:
    """Attends in place of every layer (``models.protocol.AttentionCache``), inside each document."""

    def __init__(self, segments: torch.Tensor) -> None:
        self._documents = Documents(tuple(run_lengths(segments)))

    def attend(
        self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rule: AttentionRule | None = None
    ) -> torch.Tensor:
        return attend(q, k, v, self._documents, causal=False)


def hidden_of(model: Any, batch: MaskedBatch) -> torch.Tensor:
    """The vectors [B, T, d_model] of a batch's tokens; the model is a models.encoder.Encoder."""
    if batch.segments is None:
        result: torch.Tensor = model.hidden(
            batch.ids, attention_mask=batch.attention_mask, segments=batch.types
        )
        return result
    config, positions = model.config, segment_positions(batch.segments)
    if config.positions == "skip_padding":  # RoBERTa counts from the padding's id on
        positions = positions + (config.pad_id or 0) + 1
    # padding is no document, so its places count for nothing, but they must be in the table
    positions = positions.masked_fill(batch.segments < 0, 0)
    vectors: torch.Tensor = model.hidden(
        batch.ids, positions=positions, attention=_ByDocument(batch.segments)
    )
    return vectors


class MaskedObjective(Objective):
    """Mean cross-entropy of the hidden tokens; with pairs, plus the mean cross-entropy of their labels.

    A step's loss is divided by its hidden tokens. A pair's loss is therefore counted as often as a row has hidden
    tokens on the average, so that both means weigh alike (BERT's and ALBERT's loss is their sum).

    Args:
        rows: what is read.
        masking: which tokens are hidden.
        pad_id: fills up shorter rows.
        seed: with the epoch and the row's number it decides on every mask and pair.
        room: most tokens of a row into which several shorter ones are packed, if that leaves less padding; 0: none are.
            For models that take texts laid end to end (``Encoder.takes_packed``), and no pairs.
        copies: 0: drawn anew in every epoch; else so many draws that come round again (BERT: 10).
    """

    drawn_anew: ClassVar[bool] = True

    def __init__(
        self, rows: Rows, masking: Masking, pad_id: int, *, seed: int, copies: int = 0, room: int = 0
    ) -> None:
        self._rows, self._masking, self._pad = rows, masking, pad_id
        self._seed, self._copies = seed, copies
        self._longest = rows.longest
        self._room = max(room, rows.longest) if room and not rows.paired else 0
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

    def parts(self, indices: Sequence[int], size: int) -> list[list[int]]:
        """Rows of like length together; packed ones in micro-batches of about equally many tokens."""
        if not self._room:
            return super().parts(indices, size)
        return even_parts(indices, [self.length(i) for i in indices], size)

    def batch(self, indices: Sequence[int]) -> MaskedBatch:
        samples = [self.sample(number) for number in indices]
        lengths = [len(row.ids) for row, _, _ in samples]
        packed = smaller(lengths, self._room, self._longest)
        if packed is None:
            places, longest = [[i] for i in range(len(samples))], padded_to(max(lengths), self._longest)
        else:
            places, longest = packed, area(packed, lengths, self._room) // len(packed)
        ids = np.full((len(places), longest), self._pad, dtype=np.int64)
        types, segments = np.zeros_like(ids), np.full_like(ids, -1)
        positions: list[np.ndarray] = [np.empty(0)] * len(samples)
        for number, together in enumerate(places):
            start = 0
            for place, index in enumerate(together):
                row, hidden, chosen = samples[index]
                span = slice(start, start + len(hidden))
                ids[number, span], segments[number, span] = hidden, place
                if row.types is not None:
                    types[number, span] = row.types
                positions[index] = number * longest + start + chosen
                start += len(hidden)
        targets = [row.ids[chosen] for row, _, chosen in samples]
        scored = sum(map(len, targets))
        fill = -scored % SCORED_STEP
        real, paired = segments >= 0, self._rows.paired
        return MaskedBatch(
            ids=torch.from_numpy(ids),
            positions=torch.from_numpy(np.concatenate([*positions, np.zeros(fill, dtype=np.int64)])),
            targets=torch.from_numpy(np.concatenate([*targets, np.full(fill, UNSCORED)]).astype(np.int64)),
            scored=scored, tokens=sum(lengths),
            segments=None if packed is None else torch.from_numpy(segments),
            attention_mask=torch.from_numpy(real) if packed is None and not real.all() else None,
            types=torch.from_numpy(types) if paired else None,
            pair=torch.tensor([row.pair for row, _, _ in samples]) if paired else None,
        )  # fmt: skip

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the negative log-probabilities in nats; the model is a models.encoder.Encoder."""
        assert isinstance(batch, MaskedBatch)
        hidden = hidden_of(model, batch)
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
