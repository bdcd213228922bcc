"""A linear layer whose memory is left as it comes until weights are drawn or loaded."""

from __future__ import annotations

from torch import Tensor, nn

from arriero.models.layers.remade import linear_of


class Linear(nn.Linear):
    """``y = x W^T + b``. Creating it draws no random numbers and touches no memory."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False) -> None:
        super().__init__(in_features, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] -> [..., out_features]."""
        return linear_of(x, self.weight, self.bias)

    def reset_parameters(self) -> None:
        """Weights come from ``models.initialise`` or from a checkpoint."""
