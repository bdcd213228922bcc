"""Products in float8 (e4m3) with a scale for each row of activations and of weights, as Hopper multiplies them.

Both sides are rounded to ``code * amax / 448``, a relative error of at most 1/16 of each number that is not tiny, and summed in
float32 by ``torch._scaled_mm``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from arriero.models.layers.linear import Linear

LEAST_CAPABILITY = (9, 0)
LARGEST = torch.finfo(torch.float8_e4m3fn).max
"""448, the largest code."""

_MULTIPLE = 16
"""What the sides of a weight must be multiples of."""


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a device cannot multiply in float8; None where it can."""
    if device.type != "cuda":
        return f"float8 products need an NVIDIA GPU of compute capability 9.0 (Hopper) or more; this is {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return f"float8 products need compute capability 9.0 (Hopper) or more; {name} has {capability[0]}.{capability[1]}"
    if dtype != torch.bfloat16:
        return f"float8 products give bfloat16; the model's weights are {str(dtype).removeprefix('torch.')}"
    return None


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """float8 codes [M, K] of x [M, K] and float32 scales [M, 1]: ``amax / 448`` of each row."""
    x = x.float()
    scale = x.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (x / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


class Float8Weight:
    """A weight [N, K] in float8.

    Args:
        layer: its own weight stays as it is, beside this one.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._codes, self._scales = quantise_rows(layer.weight.detach())
        self._bias = layer.bias

    @staticmethod
    def takes(layer: nn.Module) -> bool:
        """Plain layers whose sides are multiples of 16."""
        return isinstance(layer, Linear) and not (
            layer.in_features % _MULTIPLE or layer.out_features % _MULTIPLE
        )

    def product(self, x: Tensor) -> Tensor:
        """x bfloat16 [..., K] -> bfloat16 [..., N]."""
        codes, scales = quantise_rows(x.reshape(-1, x.shape[-1]))
        y: Tensor = torch._scaled_mm(
            codes,
            self._codes.t(),
            scale_a=scales,
            scale_b=self._scales.t(),
            bias=self._bias,
            out_dtype=x.dtype,
        )
        return y.view(*x.shape[:-1], -1)
