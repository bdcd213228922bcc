"""Matrix products in 8 bits of floating point over weights that stay float32 (Micikevicius et al., arXiv 2209.05433).

Every factor is scaled so that its largest value is the format's largest (one scale a tensor, worked out anew each
time) and rounded: activations and weights to e4m3, gradients to e5m2. The products are torch's ``_scaled_mm``: the
tensor cores of Hopper and later; torch's CPU kernel gives the same numbers, slowly, which the tests use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.layers.block import Block
from arriero.models.layers.linear import Linear

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16
"""Every size of a product has to be a multiple of it."""
_SMALLEST = 1e-12


def float8_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b`` in float8: x [..., K], weight [N, K] -> bfloat16 [..., N], differentiable.

    Raises:
        ArrieroError: K or N is not a multiple of 16.
    """
    if weight.shape[0] % MULTIPLE or weight.shape[1] % MULTIPLE:
        raise ArrieroError(
            f"fp8 products need sizes that are multiples of {MULTIPLE}, and a weight is {tuple(weight.shape)}; "
            "choose other widths, or precision bf16"
        )
    rows = x.reshape(-1, x.shape[-1])
    missing = -len(rows) % MULTIPLE
    if missing:  # rows of zeros change nothing
        rows = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = _Float8Product.apply(rows, weight)
    out = out[: len(out) - missing].view(*x.shape[:-1], -1)
    return out if bias is None else out + bias.to(out.dtype)


@contextmanager
def float8_products(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Have the linear layers of the model's blocks multiply in float8 while the body runs; the head does not.

    Raises:
        ArrieroError: the model's device has no such products.
    """
    layers = _layers(model) if wanted else []
    if wanted:
        _check_device(next(model.parameters()).device)
    for layer in layers:
        layer.__dict__["forward"] = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _layers(model: nn.Module) -> list[Linear]:
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    return [m for block in blocks for m in block.modules() if isinstance(m, Linear)]


def _forward(layer: Linear, x: Tensor) -> Tensor:
    return float8_linear(x, layer.weight, layer.bias)


def _check_device(device: torch.device) -> None:
    if device.type != "cuda":
        raise ArrieroError(
            "precision fp8 needs an NVIDIA GPU of the Hopper generation or later; take bf16 on a CPU"
        )
    if torch.cuda.get_device_capability(device) < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise ArrieroError(
            f"precision fp8: {name} has no products in 8 bits (Hopper and later have); take bf16"
        )


def _rounded(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in ``dtype``, and the factor (float32 []) that gives its values back."""
    largest = torch.finfo(dtype).max
    scale = x.abs().amax().float().clamp(min=_SMALLEST) / largest
    return (x.float() / scale).clamp(-largest, largest).to(dtype), scale


def _product(a: Tensor, a_scale: Tensor, b: Tensor, b_scale: Tensor) -> Tensor:
    """``a b^T``: [M, K], [N, K] -> bfloat16 [M, N]; the kernels want both row by row."""
    a, b = a.contiguous(), b.contiguous()
    return torch._scaled_mm(a, b.t(), scale_a=a_scale, scale_b=b_scale, out_dtype=torch.bfloat16)


class _Float8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x8, w8 = _rounded(x, FORWARD), _rounded(weight, FORWARD)
        ctx.save_for_backward(*x8, *w8)
        ctx.dtypes = x.dtype, weight.dtype
        return _product(*x8, *w8)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, x_scale, weight, weight_scale = ctx.saved_tensors
        g, g_scale = _rounded(gradient, BACKWARD)
        wants_x, wants_weight = ctx.needs_input_grad
        to_x = _product(g, g_scale, weight.t(), weight_scale).to(ctx.dtypes[0]) if wants_x else None
        to_weight = _product(g.t(), g_scale, x.t(), x_scale).to(ctx.dtypes[1]) if wants_weight else None
        return to_x, to_weight
