"""Causal self-attention with grouped key and value heads (Ainslie et al., arXiv 2305.13245)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.config import DecoderConfig
from arriero.models.layers.linear import Linear
from arriero.models.layers.rotary import rotate
from arriero.models.protocol import AttentionCache

EXPLICIT_LENGTH = 512
"""Up to here bfloat16 scores are worked out whole on the CPU: torch's fused kernel takes three times as long."""


class Attention(nn.Module):
    """Self-attention of one block."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.q_proj = Linear(config.d_model, config.n_heads * config.head_dim)
        self.k_proj = Linear(config.d_model, config.n_kv_heads * config.head_dim)
        self.v_proj = Linear(config.d_model, config.n_kv_heads * config.head_dim)
        self.o_proj = Linear(config.n_heads * config.head_dim, config.d_model)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, cache: AttentionCache | None
    ) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model].

        ``mask`` is added to the scores: [B, 1, T, T] of 0 and -inf in the dtype of the products; None is causal.
        With a ``cache`` the cache attends, and ``mask`` must be None.
        """
        batch, length, _ = x.shape
        q = rotate(self.q_proj(x).view(batch, length, self.n_heads, self.head_dim).transpose(1, 2), *angles)
        k = rotate(
            self.k_proj(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2), *angles
        )
        v = self.v_proj(x).view(batch, length, self.n_kv_heads, self.head_dim).transpose(1, 2)
        out = cache.attend(self.layer, q, k, v) if cache is not None else attend(q, k, v, mask)
        result: Tensor = self.o_proj(out.transpose(1, 2).reshape(batch, length, self.n_heads * self.head_dim))
        return result


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of q [B, H, T, Dh] over k, v [B, Hkv, T, Dh] -> [B, H, T, Dh]; ``mask`` as in Attention."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= EXPLICIT_LENGTH:
        return _attend_explicit(q, k, v, mask)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=q.shape[1] != k.shape[1]
    )


def _attend_explicit(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Two batched products; the query heads that share a key head lie one below the other in one matrix."""
    batch, n_heads, length, head_dim = q.shape
    n_kv_heads = k.shape[1]
    group = n_heads // n_kv_heads
    if mask is None:
        mask = torch.full((length, length), -math.inf, dtype=q.dtype, device=q.device).triu_(1)
    queries = (q * head_dim**-0.5).reshape(batch, n_kv_heads, group * length, head_dim)
    scores = torch.matmul(queries, k.transpose(2, 3)).view(batch, n_heads, length, length)
    weights = torch.softmax(scores.add_(mask), dim=-1).to(v.dtype)
    return torch.matmul(weights.view(batch, n_kv_heads, group * length, length), v).view(q.shape)


def segment_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, T, T]: a token sees itself and earlier tokens of its own segment.

    Padding (negative segments) sees the padding before it, so no row is empty and no result is NaN.
    """
    same = segments.unsqueeze(2) == segments.unsqueeze(1)
    mask = torch.zeros(same.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(same.tril_().logical_not_(), -math.inf).unsqueeze(1)


def segment_positions(segments: Tensor) -> Tensor:
    """Positions [B, T] that start from 0 wherever the segment number [B, T] changes."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = torch.zeros_like(index)
    starts[:, 1:] = index[:, 1:] * (segments[:, 1:] != segments[:, :-1])
    return index - starts.cummax(dim=1).values
