"""The embedding table, which may serve as the head too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.products import linear


class Embedding(nn.Module):
    """Rows of ``weight`` [rows, width] by number. Creating it draws no random numbers."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 [...] -> vectors [..., width]."""
        return F.embedding(ids, self.weight)

    def as_head(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """hidden [..., width] -> logits [..., rows], with the same table (Press & Wolf, arXiv 1608.05859)."""
        return linear(hidden, self.weight, bias)
