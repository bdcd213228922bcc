"""The gated activation and the product after it as one operation, whose backward pass goes through gate and up once.

What the product's weight wants for its gradient, the activation's result, and the gradients of gate and up come of the
same three tensors, so one pass over them gives all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from arriero.models.layers.linear import Linear
from arriero.models.layers.precision import product_dtype
from arriero.models.layers.remade import gradient_of_weight, input_gradient
from arriero.native import training as native
from arriero.products import linear


def joins(gate: Tensor, up: Tensor, down: torch.nn.Module) -> bool:
    """True where :func:`gated_down` may be used: in training, on tensors that the native passes take, and with a plain
    layer that nobody has hooked or put something else in the place of."""
    if torch.compiler.is_compiling() or type(down) is not Linear:
        return False
    if not down.weight.requires_grad or not torch.is_grad_enabled():
        return False
    altered = (
        down._forward_hooks or down._forward_pre_hooks or down._backward_hooks or "forward" in vars(down)
    )
    return (
        not altered
        and gate.requires_grad
        and gate.dtype == up.dtype == product_dtype(gate)
        and native.takes(gate, up, down.weight)
    )


def gated_down(gate: Tensor, up: Tensor, down: Linear) -> Tensor:
    """``down(silu(gate) * up)``: [..., d_ff] -> [..., d_model]; keeps gate, up and the weight alone."""
    result: Tensor = _GatedDown.apply(gate, up, down.weight, down.bias)
    return result


class _GatedDown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(gate, up, weight)
        ctx.has_bias = bias is not None
        return linear(native.gated(gate, up), weight.to(gate.dtype), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        # this tensor is nobody else's, so the gradient of up may take its place
        of_up = input_gradient(gradient, weight, gate.dtype).contiguous()
        of_gate, inner = native.gated_gradients_and_again(gate, up, of_up)
        of_weight = gradient_of_weight(gradient, inner).to(weight.dtype) if ctx.needs_input_grad[2] else None
        of_bias = None
        if ctx.has_bias and ctx.needs_input_grad[3]:
            of_bias = gradient.reshape(-1, gradient.shape[-1]).sum(0).to(weight.dtype)
        return of_gate, of_up, of_weight, of_bias
