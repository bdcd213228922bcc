"""Rotary position embedding (Su et al., arXiv 2104.09864), half-split as in Hugging Face's Llama."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from arriero.errors import ArrieroError


class Rotary(nn.Module):
    """Cosines and sines of ``position * theta^(-2i/head_dim)``, float32 [context_length, head_dim].

    Each stands twice in a row, once for either half of a head; the first half's sines are negative, so that
    ``x cos + swap(x) sin`` is the rotation, with ``swap`` exchanging the halves.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context_length: int, theta: float) -> None:
        super().__init__()
        self.context_length = context_length
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        angles = torch.outer(torch.arange(context_length).float(), 1.0 / theta**exponents)
        cos, sin = angles.cos(), angles.sin()
        self.register_buffer("cos", torch.cat([cos, cos], dim=-1), persistent=False)
        self.register_buffer("sin", torch.cat([-sin, sin], dim=-1), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:
        """Moves with the model, but stays float32 when the model is cast: angles need the digits."""
        cos, sin = self.cos, self.sin
        super()._apply(fn, recurse)
        if self.cos.dtype != torch.float32:
            self.cos, self.sin = cos.to(self.cos.device), sin.to(self.sin.device)
        return self

    def forward(self, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """cos and sin for ``length`` tokens: [T, head_dim], or [B, 1, T, head_dim] for positions [B, T].

        Raises:
            ArrieroError: more tokens than the context holds.
        """
        if length > self.context_length:
            raise ArrieroError(f"{length} tokens are more than the model's context of {self.context_length}")
        if positions is None:
            return self.cos[:length], self.sin[:length]
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pair (i, i + head_dim/2) of x [B, H, T, head_dim] by its angle; keeps x's dtype."""
    result: Tensor = _Rotate.apply(x, cos, sin)
    return result


class _Rotate(torch.autograd.Function):
    """A rotation's backward is the rotation by the opposite angle, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    # mixed dtypes compute in float32; the only copy is the one that swaps the halves
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin, value=direction).to(x.dtype)
