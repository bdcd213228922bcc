"""What an encoder reads: word, position and segment vectors, added, normalised and, if factorised, widened."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.known import values_known
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import LayerNorm


class EncoderEmbedding(nn.Module):
    """BERT's input layer (arXiv 1810.04805, figure 2), factorised as in ALBERT (arXiv 1909.11942, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.table_width
        self.word = Embedding(config.vocab_size, width)
        self.positions = None if config.positions == "none" else Embedding(config.context_length, width)
        self.segment = Embedding(config.n_segments, width) if config.n_segments else None
        before = config.embedding_projection == "before_norm"
        self.norm = LayerNorm(config.d_model if before else width, config.norm_eps)
        self.projection = (
            None if config.embedding_projection == "none" else Linear(width, config.d_model, bias=not before)
        )

    def forward(
        self, ids: Tensor, segments: Tensor | None, positions: Tensor | None, keep: Tensor | None
    ) -> Tensor:
        """Vectors of the tokens.

        Args:
            ids: int64 [B, T].
            segments: int64 [B, T] or [1, T]; None: all of segment 0.
            positions: int64 [B, T] or [1, T], rows of the position table; None: as the family counts them.
            keep: bool [B, T], False for padding; None: nothing is padding.

        Returns:
            [B, T, d_model].

        Raises:
            ArrieroError: more tokens than the position table has rows.
        """
        x = self.word(ids)
        if self.segment is not None:
            x = x + (self.segment.weight[0] if segments is None else self.segment(segments))
        if self.positions is not None:
            x = x + self._places(self.positions, ids, positions)
        x = self._norm_and_widen(x)
        if keep is not None and self.config.mask_embeddings:
            x = x * keep.unsqueeze(2)
        return F.dropout(x, self.config.dropout, self.training)

    def _norm_and_widen(self, x: Tensor) -> Tensor:
        if self.projection is None:
            result: Tensor = self.norm(x)
        elif self.config.embedding_projection == "before_norm":
            result = self.norm(self.projection(x))
        else:
            result = self.projection(self.norm(x))
        return result

    def _places(self, table: Embedding, ids: Tensor, positions: Tensor | None) -> Tensor:
        """Position vectors that broadcast to [B, T, width]."""
        length, longest = ids.shape[1], self.config.longest
        if positions is None and self.config.positions == "absolute":
            self._check_length(length, longest)
            return table.weight[:length]
        if positions is None:
            positions = positions_of_tokens(ids, self.config.pad_id or 0)
            if longest is not None and length > longest:  # still right if the rest is padding
                real = int((ids != self.config.pad_id).sum(1).max()) if values_known(ids) else length
                self._check_length(real, longest)
        elif values_known(positions) and int(positions.max()) >= self.config.context_length:
            raise ArrieroError(
                f"position {int(positions.max())} is beyond the table of {self.config.context_length} positions"
            )
        return table(positions)

    def _check_length(self, length: int, longest: int | None) -> None:
        if longest is not None and length > longest:
            raise ArrieroError(
                f"{length} tokens are more than the {longest} that the model has positions for"
            )


def positions_of_tokens(ids: Tensor, pad_id: int) -> Tensor:
    """RoBERTa's positions [B, T]: tokens count from pad_id + 1 wherever the padding lies, padding has pad_id."""
    real = ids != pad_id
    return torch.cumsum(real, dim=1) * real + pad_id
