"""Self-attention with grouped key and value heads (Ainslie et al., arXiv 2305.13245), and cross-attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.documents import Documents, FirstKeys
from arriero.models.layers.explicit_attention import attend_explicit
from arriero.models.layers.linear import Linear
from arriero.models.layers.masks import AttentionRule
from arriero.models.layers.native_attention import attend_causal, takes
from arriero.models.layers.positions import alibi_slopes
from arriero.models.layers.rotary import rotate
from arriero.models.protocol import AttentionCache
from arriero.products import widens

Places = Any
"""What an attention is told of the tokens' places: each kind knows its own, and its docstring says which."""

EXPLICIT_LENGTH = 512
"""Up to here bfloat16 scores are worked out whole on the CPU: torch's fused kernel takes three times as long."""


class Attention(nn.Module):
    """Self-attention of one block.

    Args:
        layer: number of the block, by which a cache knows it.
        causal: a token sees itself and what is before it; else everything.
        window: with ``causal``: a token sees itself and ``window - 1`` tokens before it.
        alibi: scores fall with the distance, by head (Press et al., arXiv 2108.12409).
        scale: of the scores, by default head_dim^-1/2 (T5 has 1). A cache must know of another one by itself.
    """

    slopes: Tensor | None

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        layer: int = 0,
        causal: bool = True,
        qkv_bias: bool = False,
        out_bias: bool = False,
        window: int | None = None,
        alibi: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.layer, self.causal, self.window = layer, causal, window
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.q_proj = Linear(d_model, n_heads * head_dim, qkv_bias)
        self.k_proj = Linear(d_model, n_kv_heads * head_dim, qkv_bias)
        self.v_proj = Linear(d_model, n_kv_heads * head_dim, qkv_bias)
        self.o_proj = Linear(n_heads * head_dim, d_model, out_bias)
        self.register_buffer("slopes", alibi_slopes(n_heads) if alibi else None, persistent=False)

    @property
    def rule(self) -> AttentionRule | None:
        """What else than causality decides who sees whom; None: nothing."""
        if self.window is None and self.slopes is None:
            return None
        return AttentionRule(self.window, self.slopes)

    def forward(
        self,
        x: Tensor,
        places: Places = None,
        mask: Tensor | Documents | FirstKeys | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model].

        Args:
            places: what tells the tokens' places here: cosines and sines of the rotary embedding; None leaves queries
                and keys as they are.
            mask: added to the scores: broadcastable to [B, H, T, T], in the dtype of the products, 0 and -inf and the
                like; None: causality alone (or nothing). A mask replaces causality, so it must hold it. Or documents,
                for kinds of attention that need no more than to stay inside each.
            cache: attends in place of this layer; then ``mask`` must be None.
        """
        q, k = self._queries_keys(x, places)
        v = self._heads(self.v_proj(x), self.n_kv_heads)
        out = self._attend(q, k, v, places, mask, cache)
        result: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return result

    def _queries_keys(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        q, k = self._heads(self.q_proj(x), self.n_heads), self._heads(self.k_proj(x), self.n_kv_heads)
        return (q, k) if places is None else (rotate(q, *places), rotate(k, *places))

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        places: Places,
        mask: Any,
        cache: AttentionCache | None,
    ) -> Tensor:
        if cache is not None:
            return cache.attend(self.layer, q, k, v, self.rule)
        return attend(q, k, v, mask, self.causal, self.scale)

    def _heads(self, x: Tensor, n_heads: int) -> Tensor:
        return x.view(x.shape[0], x.shape[1], n_heads, self.head_dim).transpose(1, 2)


class CrossAttention(nn.Module):
    """Attention from one sequence to another (Vaswani et al. 2017, section 3.2.3)."""

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, bias: bool = False, scale: float | None = None
    ) -> None:
        super().__init__()
        self.n_heads, self.head_dim, self.scale = n_heads, head_dim, scale
        self.q_proj = Linear(d_model, n_heads * head_dim, bias)
        self.k_proj = Linear(d_model, n_heads * head_dim, bias)
        self.v_proj = Linear(d_model, n_heads * head_dim, bias)
        self.o_proj = Linear(n_heads * head_dim, d_model, bias)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of memory [B, S, d_model], each [B, H, S, head_dim]: made once for a whole generation."""
        return self._heads(self.k_proj(memory)), self._heads(self.v_proj(memory))

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model]; ``mask`` is additive, broadcastable to [B, H, T, S]."""
        out = attend(self._heads(self.q_proj(x)), *keys_values, mask, False, self.scale)
        result: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return result

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.n_heads, self.head_dim).transpose(1, 2)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | Documents | FirstKeys | None,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """Attention of q [B, H, T, Dh] over k, v [B, Hkv, S, Dh] -> [B, H, T, Dh].

    Args:
        mask: additive, broadcastable to [B, H, T, S]; with ``causal`` and T = S it must hold causality. Or the documents
            of the rows: attention stays inside each, causal or not (told by first keys it is causal).
        causal: token t sees none but keys 0 .. t.
        scale: of the scores, by default Dh^-1/2.
    """
    if isinstance(mask, Documents):
        return _attend_documents(q, k, v, mask, causal, scale)
    short = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= EXPLICIT_LENGTH
    if short and causal and not isinstance(mask, Tensor):
        factor = q.shape[-1] ** -0.5 if scale is None else scale
        if takes(q, k, v, factor):
            return attend_causal(q, k, v, factor, mask)
    if isinstance(mask, FirstKeys):
        mask = mask.mask(q.dtype)
    if short:
        return attend_explicit(q, k, v, mask, causal, scale)
    if widens(q, k):
        added = mask.float() if isinstance(mask, Tensor) else None
        with torch.autocast("cpu", enabled=False):
            return _fused(q.float(), k.float(), v.float(), added, causal, scale).to(q.dtype)
    return _fused(q, k, v, mask, causal, scale)


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    alone, grouped = causal and mask is None, q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=alone, scale=scale, enable_gqa=grouped
    )


def _attend_documents(
    q: Tensor, k: Tensor, v: Tensor, documents: Documents, causal: bool, scale: float | None
) -> Tensor:
    """Each document by itself: rows are laid end to end, cut, and put together again."""

    def cut(x: Tensor) -> tuple[Tensor, ...]:
        rows: Tensor = x.transpose(1, 2).flatten(0, 1).unsqueeze(0)
        return rows.split(documents.lengths, dim=1)

    parts = [
        attend(a.transpose(1, 2), b.transpose(1, 2), c.transpose(1, 2), None, causal, scale).transpose(1, 2)
        for a, b, c in zip(cut(q), cut(k), cut(v), strict=True)
    ]
    return torch.cat(parts, dim=1).view(q.shape[0], q.shape[2], q.shape[1], -1).transpose(1, 2)
