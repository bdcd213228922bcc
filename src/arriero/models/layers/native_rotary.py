"""Rotary position embedding in bfloat16 by the native library: one pass over the heads, as an operation that plans know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from arriero.native import rotary as native

_OPERATIONS = torch.library.Library("arriero", "FRAGMENT")


def takes(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """True where :func:`rotate` may stand in for torch's operations."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and x.dim() == 4
        and x.stride(-1) == 1
        and cos.dtype == sin.dtype == torch.float32
        and cos.stride() == sin.stride()
        and cos.stride(-1) == 1
        and all(type(part) in (Tensor, nn.Parameter, FakeTensor) for part in (x, cos, sin))
        and not torch.compiler.is_compiling()
        and native.available()
    )


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [B, H, T, Dh] with pairs (i, i + width/2) of its first ``width`` dimensions turned: in float32, rounded once."""
    if torch.is_grad_enabled():
        result: Tensor = _Rotate.apply(x, cos, sin)
        return result
    turned: Tensor = torch.ops.arriero.rotate(x, cos, sin, 1)
    return turned


class _Rotate(torch.autograd.Function):
    """A rotation's backward is the rotation by the opposite angle, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        result: Tensor = torch.ops.arriero.rotate(x, cos, sin, 1)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
        return torch.ops.arriero.rotate(gradient, *ctx.saved_tensors, -1), None, None


def _run(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    out = torch.empty_like(x)
    native.rotate(x, cos, sin, direction, out)
    return out


def _shape(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    return torch.empty_like(x)


_OPERATIONS.define("rotate(Tensor x, Tensor cos, Tensor sin, int direction) -> Tensor")
_OPERATIONS.impl("rotate", _run, "CPU")
torch.library.register_fake("arriero::rotate", _shape, lib=_OPERATIONS)
