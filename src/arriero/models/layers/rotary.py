"""Rotary position embedding (Su et al., arXiv 2104.09864), half-split as in Hugging Face's Llama."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from arriero.errors import ArrieroError
from arriero.models.decoder_config import RopeScaling
from arriero.models.layers import native_rotary
from arriero.models.layers.rope_scaling import scaled_frequencies


class Rotary(nn.Module):
    """Cosines and sines of ``position * frequency``, float32 [context_length, width].

    Each stands twice in a row, once for either half of the turned dimensions; the first half's sines are negative, so
    that ``x cos + swap(x) sin`` is the rotation, with ``swap`` exchanging the halves.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, width: int, context_length: int, theta: float, scaling: RopeScaling | None = None
    ) -> None:
        """``width``: dimensions of a head that turn."""
        super().__init__()
        self.width, self.context_length, self.theta, self.scaling = width, context_length, theta, scaling
        cos, sin = self._table(context_length, min(context_length, self._unscaled))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def _unscaled(self) -> int:
        """Longest sequence whose frequencies are those of the table."""
        dynamic = self.scaling is not None and self.scaling.kind == "dynamic"
        return (
            (self.scaling.original_context_length or self.context_length)
            if dynamic and self.scaling
            else (self.context_length)
        )

    def _table(self, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """cos, sin [rows, width] for sequences of ``length`` tokens."""
        frequencies, factor = scaled_frequencies(self.width, self.theta, self.scaling, length)
        angles = torch.outer(torch.arange(rows).float(), frequencies)
        cos, sin = angles.cos() * factor, angles.sin() * factor
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)

    def _apply(self, fn: Any, recurse: bool = True) -> Rotary:
        """Moves with the model, but stays float32 when the model is cast: angles need the digits."""
        cos, sin = self.cos, self.sin
        super()._apply(fn, recurse)
        if self.cos.dtype != torch.float32:
            self.cos, self.sin = cos.to(self.cos.device), sin.to(self.sin.device)
        return self

    def forward(self, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """cos and sin for ``length`` tokens: [T, width], or [B, 1, T, width] for positions [B, T].

        Raises:
            ArrieroError: more tokens than the context holds.
        """
        if positions is None and length > self.context_length:
            raise ArrieroError(f"{length} tokens are more than the model's context of {self.context_length}")
        cos, sin = self._tables_for(length, positions)
        if positions is None:
            return cos[:length], sin[:length]
        return cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)

    def _tables_for(self, length: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        if self._unscaled == self.context_length:
            return self.cos, self.sin
        longest = length if positions is None else int(positions.max()) + 1
        if longest <= self._unscaled:
            return self.cos, self.sin
        with torch.device(self.cos.device):
            return self._table(longest, longest)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pair (i, i + width/2) of the first ``width`` dimensions of x [B, H, T, head_dim]; keeps x's dtype."""
    if native_rotary.takes(x, cos, sin):
        return native_rotary.rotate(x, cos, sin)
    width = cos.shape[-1]
    if width < x.shape[-1]:
        turned: Tensor = _Rotate.apply(x[..., :width], cos, sin)
        return torch.cat([turned, x[..., width:]], dim=-1)
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
