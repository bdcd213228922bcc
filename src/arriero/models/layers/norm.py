"""Normalisation of the residual stream: RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.precision import product_dtype
from arriero.models.layers.remade import remade


class RMSNorm(nn.Module):
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last dimension, worked out in float32.

    The result has the dtype of ``x``, under autocast that of the products which it feeds: one cast here in place of
    one in each of them.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width]."""
        dtype = product_dtype(x)
        with torch.no_grad():
            wide = x.float()
            mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
            inverse_rms = mean_square.add_(self.eps).rsqrt_()
            normalised = wide * inverse_rms
        made = _RMSNormFunction.apply(x, self.weight, normalised, inverse_rms, dtype)
        return remade(made, partial(_weighted, dtype=dtype), normalised, self.weight)


class LayerNorm(nn.Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last dimension, worked out in float32."""

    def __init__(self, width: int, eps: float, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> [..., width], in the dtype that RMSNorm gives."""
        dtype = product_dtype(x)
        bias = [] if self.bias is None else [self.bias]
        make = partial(_layer_norm, eps=self.eps, dtype=dtype)
        wide = x.float()
        return remade(make(wide, self.weight, *bias), make, wide, self.weight, *bias)


def make_norm(kind: Literal["rms", "layer"], width: int, eps: float, bias: bool = True) -> nn.Module:
    """A norm of the kind that a configuration names; ``bias`` is LayerNorm's."""
    return RMSNorm(width, eps) if kind == "rms" else LayerNorm(width, eps, bias)


def _weighted(normalised: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    return (normalised * weight.float()).to(dtype)


def _layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float, dtype: torch.dtype
) -> Tensor:
    # autocast would widen the input too, but leave the result wide
    with torch.autocast(x.device.type, enabled=False):
        wide = None if bias is None else bias.float()
        return F.layer_norm(x, weight.shape, weight.float(), wide, eps).to(dtype)


class _RMSNormFunction(torch.autograd.Function):
    """Hand-written backward: a third fewer passes over memory than what autograd derives."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, normalised: Tensor, inverse_rms: Tensor, dtype: torch.dtype
    ) -> Tensor:
        ctx.x_dtype = x.dtype
        ctx.save_for_backward(normalised, inverse_rms, weight)
        return _weighted(normalised, weight, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        normalised, inverse_rms, weight = ctx.saved_tensors
        wide = gradient.float()
        projected = wide * normalised
        weight_gradient = projected.flatten(0, -2).sum(0)
        # d x = (g w - n mean(g w n)) / rms
        mean = (
            torch.mv(projected.flatten(0, -2), weight.float()).view_as(inverse_rms).div_(projected.shape[-1])
        )
        x_gradient = torch.mul(wide, weight.float()).addcmul_(normalised, mean, value=-1).mul_(inverse_rms)
        return x_gradient.to(ctx.x_dtype), weight_gradient.to(weight.dtype), None, None, None
