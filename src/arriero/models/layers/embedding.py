"""The embedding table, which may serve as the head too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Embedding(nn.Module):
    """Rows of ``weight`` [vocab_size, d_model] by token id. Creating it draws no random numbers."""

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model))

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 [...] -> vectors [..., d_model]."""
        return F.embedding(ids, self.weight)

    def as_head(self, hidden: Tensor) -> Tensor:
        """hidden [..., d_model] -> logits [..., vocab_size], with the same table (Press & Wolf, arXiv 1608.05859)."""
        return F.linear(hidden, self.weight)
