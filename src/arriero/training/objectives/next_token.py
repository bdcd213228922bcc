"""Cross-entropy of the next token at the scored positions: the loss of pre-training and of SFT alike."""

from __future__ import annotations

from typing import Any

import torch

from arriero.training.objectives import head
from arriero.training.objectives.base import Batch, Objective


class NextToken(Objective):
    """Mean of -log p(next token) over the scored positions. Subclasses say which positions those are."""

    def weight(self, batch: Batch) -> int:
        """Scored tokens."""
        return batch.scored

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum of the negative log-probabilities in nats; only scored positions go through the head."""
        hidden = model.hidden(batch.ids, segments=batch.segments)
        return head.loss_sum(model, head.chosen(hidden, batch.positions), batch.targets), {}
