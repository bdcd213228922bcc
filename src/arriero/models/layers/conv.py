"""The convolution beside the first layer of DeBERTa v2 xlarge: neighbouring pieces of a word meet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.activation import ACTIVATIONS
from arriero.models.layers.norm import LayerNorm


class Convolution(nn.Conv1d):
    """A convolution over tokens that draws no random numbers when it is made."""

    def reset_parameters(self) -> None:
        """Weights come from ``models.initialise`` or from a checkpoint."""


class TokenConvolution(nn.Module):
    """``norm(layer's result + act(conv(embedding)))``, padding set to 0."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.activation, self.dropout = ACTIVATIONS[config.conv_activation], config.dropout
        self.conv = Convolution(
            config.d_model, config.d_model, config.conv_kernel,
            padding=config.conv_kernel // 2, groups=config.conv_groups,
        )  # fmt: skip
        self.norm = LayerNorm(config.d_model, config.norm_eps)

    def forward(self, embedded: Tensor, x: Tensor, keep: Tensor | None) -> Tensor:
        """The embedding's vectors and the first layer's, both [B, T, d]; ``keep`` bool [B, T] -> [B, T, d]."""
        out = self.conv(embedded.transpose(1, 2)).transpose(1, 2)
        if keep is not None:
            out = out * keep.unsqueeze(2)
        result: Tensor = self.norm(x + self.activation(F.dropout(out, self.dropout, self.training)))
        return result if keep is None else result * keep.unsqueeze(2)
