"""The feed-forward layer: plain, or gated as in SwiGLU (Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.activation import ACTIVATIONS
from arriero.models.layers.gated_down import gated_down, joins
from arriero.models.layers.linear import Linear
from arriero.models.layers.remade import remade
from arriero.native import training as native


class FeedForward(nn.Module):
    """``down(act(up(x)))``, with a gate ``down(act(gate(x)) * up(x))``: [..., d_model] -> [..., d_model]."""

    def __init__(
        self, d_model: int, d_ff: int, activation: str = "silu", gated: bool = True, bias: bool = False
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.gate_proj = Linear(d_model, d_ff, bias) if gated else None
        self.up_proj = Linear(d_model, d_ff, bias)
        self.down_proj = Linear(d_ff, d_model, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_proj is None:
            up = self.up_proj(x)
            inner = remade(self.activation(up), self.activation, up)
        elif self.activation is F.silu:
            gate, up = self.gate_proj(x), self.up_proj(x)
            if joins(gate, up, self.down_proj):
                return gated_down(gate, up, self.down_proj)
            inner = silu_product(gate, up)
        else:
            inner = self.activation(self.gate_proj(x)) * self.up_proj(x)
        result: Tensor = self.down_proj(inner)
        return result


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``, keeping two tensors for the backward pass where autograd keeps three."""
    if not torch.is_grad_enabled():
        return F.silu(gate, inplace=True).mul_(up)
    return remade(_SiluProduct.apply(gate, up), _silu_times, gate, up)


def _silu_times(gate: Tensor, up: Tensor) -> Tensor:
    return native.gated(gate, up) if _native(gate, up) else F.silu(gate).mul_(up)


def _native(gate: Tensor, up: Tensor) -> bool:
    return gate.dtype == up.dtype and native.takes(gate, up)


class _SiluProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _silu_times(gate, up)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        if _native(gate, up):
            return native.gated_gradients(gate, up, gradient)
        up_gradient = F.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), up_gradient
