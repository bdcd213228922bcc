"""Normalisation of the residual stream: RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.precision import product_dtype
from arriero.models.layers.remade import remade
from arriero.native import training as native


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
        if torch.is_grad_enabled() and native.takes(x, self.weight) and dtype in native.DTYPES:
            return self._native(x, dtype)[0]
        with torch.no_grad():
            wide = x.float()
            mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
            inverse_rms = mean_square.add_(self.eps).rsqrt_()
            normalised = wide * inverse_rms
        made = _RMSNormFunction.apply(x, self.weight, normalised, inverse_rms, dtype)
        return remade(made, partial(_weighted, dtype=dtype), normalised, self.weight)

    def of_stream(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(the result for ``x``, ``x`` to go on with). What goes on from the second has its gradient added up in the
        norm's backward pass, where that of ``x`` is at hand, rather than in a pass of its own; where that is possible."""
        dtype = product_dtype(x)
        hooked = self._forward_hooks or self._forward_pre_hooks
        if hooked or not (
            torch.is_grad_enabled() and native.takes(x, self.weight) and dtype in native.DTYPES
        ):
            result: Tensor = self(x)
            return result, x
        return self._native(x, dtype)

    def _native(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        made, stream, inverse_rms = _NativeRMSNorm.apply(x, self.weight, self.eps, dtype)
        make = partial(native.rms_norm_again, dtype=dtype)
        return remade(made, make, x.detach(), inverse_rms, self.weight), stream


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


class _NativeRMSNorm(torch.autograd.Function):
    """In one pass each way. It keeps ``x``, which is as large as what :class:`_RMSNormFunction` keeps."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        y, inverse_rms = native.rms_norm(x, weight, eps, dtype)
        ctx.save_for_backward(x, weight, inverse_rms)
        ctx.mark_non_differentiable(inverse_rms)
        return y, x, inverse_rms

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, gradient: Tensor | None, stream: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if gradient is None:
            return stream, None, None, None
        x, weight, inverse_rms = ctx.saved_tensors
        of_x, of_weight = native.rms_norm_gradients(x, inverse_rms, weight, gradient, stream)
        return of_x, of_weight, None, None
