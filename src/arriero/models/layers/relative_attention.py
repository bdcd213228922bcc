"""Relative attention of Transformer-XL (Dai et al., arXiv 1901.02860, section 3.3)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arriero.models.layers.attention import Attention, Places, attend
from arriero.models.layers.linear import Linear
from arriero.models.layers.masks import AttentionRule
from arriero.models.protocol import AttentionCache


class RelativeAttention(Attention):
    """Causal self-attention whose scores know the distance i - j of query i and key j, not their places:

    ``((q_i + u) · k_j + (q_i + v) · W_R R_{i-j}) / sqrt(head_dim)``,

    with the sinusoids R, their projection W_R (``r_proj``), and for each head u (``content_bias``) and v
    (``position_bias``), float [n_heads * head_dim].

    ``places`` of a call: R of the distances 0, 1 ... D - 1, float [D, d_model]; without a cache D is T, with one at least
    the number of tokens that it then holds.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        layer: int = 0,
        qkv_bias: bool = False,
        out_bias: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__(
            d_model, n_heads, n_kv_heads, head_dim,
            layer=layer, qkv_bias=qkv_bias, out_bias=out_bias, window=window,
        )  # fmt: skip
        self.r_proj = Linear(d_model, n_heads * head_dim)
        self.content_bias = nn.Parameter(torch.empty(n_heads * head_dim))
        self.position_bias = nn.Parameter(torch.empty(n_heads * head_dim))

    def _queries_keys(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor]:
        return super()._queries_keys(x, None)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        places: Places,
        mask: Tensor | None,
        cache: AttentionCache | None,
    ) -> Tensor:
        q, asking = q + self._by_head(self.content_bias, q), q + self._by_head(self.position_bias, q)
        if cache is not None:
            by_distance = self._by_distance(asking, places)
            return cache.attend(self.layer, q, k, v, AttentionRule(self.window, None, by_distance))
        return attend(q, k, v, _onto_keys(self._by_distance(asking, places.flip(0)), mask), causal=False)

    def _by_head(self, bias: Tensor, q: Tensor) -> Tensor:
        return bias.view(self.n_heads, 1, self.head_dim).to(q.dtype)

    def _by_distance(self, q: Tensor, table: Tensor) -> Tensor:
        """Scores of q [B, H, T, Dh] with every row of the table [D, d_model], scaled: [B, H, T, D]."""
        q = q * self.head_dim**-0.5
        table = table.to(q.dtype)
        if q.shape[2] == 1 and type(self.r_proj) is Linear:
            # one token a row: to take the query through W_R is far less work than to take all of the table through it
            by_head = self.r_proj.weight.to(q.dtype).view(self.n_heads, self.head_dim, -1)
            return torch.matmul(torch.matmul(q, by_head), table.t())
        keys = self.r_proj(table).view(len(table), self.n_heads, self.head_dim)
        return torch.matmul(q, keys.permute(1, 2, 0))


def _onto_keys(by_distance: Tensor, mask: Tensor | None) -> Tensor:
    """From distances T - 1 ... 0 to keys 0 ... T - 1: [B, H, T, T] plus ``mask``, by default that of causality.

    Row i moves T - 1 - i places to the left, all rows at once by reading them with a column more (appendix B of the
    paper); what comes from the row below lies after the query, where any mask is -inf.
    """
    length = by_distance.shape[-1]
    moved = F.pad(by_distance, (1, 0)).view(*by_distance.shape[:2], length + 1, length)[:, :, 1:]
    if mask is None:
        later = torch.ones(length, length, dtype=torch.bool, device=moved.device).triu_(1)
        return moved.masked_fill(later, -math.inf)
    return moved + mask
