"""A linear layer whose memory is left as it comes until weights are drawn or loaded."""

from __future__ import annotations

from torch import nn


class Linear(nn.Linear):
    """``y = x W^T`` without bias. Creating it draws no random numbers and touches no memory."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def reset_parameters(self) -> None:
        """Weights come from ``Decoder.init_weights`` or from a checkpoint."""
