"""Fresh weights: the same bits for the same seed, whatever the device."""

from __future__ import annotations

import torch
from torch import nn

from arriero.models.layers.norm import LayerNorm, RMSNorm

RESIDUAL_PROJECTIONS = ("o_proj.weight", "down_proj.weight")
"""Weights that write onto the residual stream."""


@torch.no_grad()
def initialise(model: nn.Module, seed: int, std: float, residual_std: float | None = None) -> None:
    """Draw every weight from a normal distribution; norms become 1 and biases 0.

    Args:
        residual_std: standard deviation of the projections onto the residual stream, by default ``std``. GPT-2 takes
            std / sqrt(2 n_layers), so that the stream's variance does not grow with depth.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {id(p) for m in model.modules() if isinstance(m, (RMSNorm, LayerNorm)) for p in m.parameters()}
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif id(parameter) in norms:
            parameter.fill_(1.0)
        else:
            scale = residual_std if residual_std and name.endswith(RESIDUAL_PROJECTIONS) else std
            # drawn on the CPU in float32, so that device and dtype don't change the draw
            drawn = torch.empty(parameter.shape, device="cpu").normal_(0.0, scale, generator=generator)
            parameter.copy_(drawn)
