"""DeBERTa's disentangled attention: content and relative position as two vectors (arXiv 2006.03654, section 3.1).

The score of query i and key j is the sum of content to content, content to position and position to content,
``(q_i k_j + q_i kr[d(i,j)] + k_j qr[d(j,i)]) / sqrt(3 head_dim)`` (equation 4). Both position terms read the same row:
``d(j,i)`` counts from the key, and the table of position queries is read mirrored.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from arriero.models.encoder_config import EncoderConfig
from arriero.models.layers.attention import Attention, attend
from arriero.models.layers.embedding import Embedding
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import LayerNorm


class RelativeContext(NamedTuple):
    """What all layers of one pass share."""

    rows: Tensor
    """The part of the relative table that this length reaches: [R, d_model]."""
    index: Tensor
    """Row for the distance from key j to query i: int64 [T, T]."""


class RelativePositions(nn.Module):
    """The table of relative positions, [2 span, d_model], one for all layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.span, self.buckets = config.span, config.relative_buckets
        self.farthest = config.relative_span or config.context_length
        self.table = Embedding(2 * self.span, config.d_model)
        self.norm = LayerNorm(config.d_model, config.norm_eps) if config.relative_norm else None

    def forward(self, length: int) -> RelativeContext:
        """Rows and index for ``length`` tokens."""
        device = self.table.weight.device
        reach = self._reach(length)
        rows = self.table.weight[self.span - reach : self.span + reach]
        distances = torch.arange(1 - length, length, device=device)
        if self.buckets is not None:
            distances = log_buckets(distances, self.buckets, self.farthest)
        row_of = (distances + self.span).clamp(0, 2 * self.span - 1) - (self.span - reach)
        places = torch.arange(length, device=device)
        index = row_of[places[:, None] - places[None, :] + (length - 1)]
        return RelativeContext(rows if self.norm is None else self.norm(rows), index)

    def _reach(self, length: int) -> int:
        """Rows on either side of distance 0 that ``length`` tokens can read; a bucket more than needed is no harm."""
        middle = (self.buckets or 0) // 2
        if self.buckets is None or length - 1 <= middle:
            return min(length, self.span)
        if self.farthest - 1 <= middle:
            return self.span
        steps = math.log((length - 1) / middle) / math.log((self.farthest - 1) / middle)
        return min(middle + math.ceil(steps * (middle - 1)) + 2, self.span)


def log_buckets(distances: Tensor, buckets: int, farthest: int) -> Tensor:
    """Signed bucket of each signed distance: exact up to ``buckets // 2``, from there logarithmic up to ``farthest``.

    int64 [...] -> int64 [...]. The arithmetic is transformers' to the bit (float32), so that borders fall alike.
    """
    middle = buckets // 2
    size = torch.where(distances.abs() < middle, middle - 1, distances.abs())
    ratio = torch.log(torch.tensor((farthest - 1) / middle, device=distances.device))
    wide = torch.ceil(torch.log(size / middle) / ratio * (middle - 1)) + middle
    return torch.where(size <= middle, distances.float(), wide * distances.sign()).long()


def pair_mask(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, T, T]: only real tokens (``keep`` bool [B, T]) see, and only real ones are seen.

    The lowest number stands for "not seen", so that padding, which sees nothing, takes the mean of all as transformers
    has it.
    """
    pairs = keep[:, None, :, None] & keep[:, None, None, :]
    mask = torch.zeros(pairs.shape, dtype=dtype, device=keep.device)
    return mask.masked_fill_(~pairs, torch.finfo(dtype).min)


class DisentangledAttention(Attention):
    """Attention whose scores know how far apart two tokens are."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(
            config.d_model, config.n_heads, config.n_heads, config.head_dim,
            causal=False, qkv_bias=True, out_bias=True,
        )  # fmt: skip
        width = config.n_heads * config.head_dim
        if not config.key_bias:
            self.k_proj = Linear(config.d_model, width)
        own = config.relative_attention and not config.share_relative_projections
        terms = config.position_terms
        self.content_to_position, self.position_to_content = "c2p" in terms, "p2c" in terms
        self.scale = (config.head_dim * (1 + len(set(terms)))) ** -0.5
        self.position_k_proj = (
            Linear(config.d_model, width, config.relative_key_bias) if own and "c2p" in terms else None
        )
        self.position_q_proj = Linear(config.d_model, width, bias=True) if own and "p2c" in terms else None

    def forward(  # type: ignore[override]
        self, x: Tensor, relative: RelativeContext | None, mask: Tensor | None, memory: Tensor | None = None
    ) -> Tensor:
        """x [B, T, d_model] -> [B, T, d_model].

        Args:
            mask: [B, 1, T, T], added to the scores.
            memory: [B, T, d_model], what is attended to, place by place beside x; by default x itself.
        """
        memory = x if memory is None else memory
        q = self._heads(self.q_proj(x), self.n_heads)
        k, v = (self._heads(f(memory), self.n_heads) for f in (self.k_proj, self.v_proj))
        bias = None if relative is None else self._position_scores(q, k, relative)
        if mask is not None:
            bias = mask if bias is None else bias + mask
        out = attend(q, k, v, bias, causal=False, scale=self.scale)
        result: Tensor = self.o_proj(out.transpose(1, 2).flatten(2))
        return result

    def _position_scores(self, q: Tensor, k: Tensor, relative: RelativeContext) -> Tensor | None:
        """The two position terms, scaled: [B, H, T, T]."""
        index = relative.index.expand(*q.shape[:3], -1)
        scores = None
        if self.content_to_position:
            keys = self._scaled_heads((self.position_k_proj or self.k_proj)(relative.rows))
            scores = torch.matmul(q, keys.transpose(2, 3)).gather(3, index)
        if self.position_to_content:
            queries = self._scaled_heads((self.position_q_proj or self.q_proj)(relative.rows))
            mirrored = (
                torch.matmul(k, queries.transpose(2, 3)).gather(3, index.transpose(2, 3)).transpose(2, 3)
            )
            scores = mirrored if scores is None else scores + mirrored
        return scores

    def _scaled_heads(self, x: Tensor) -> Tensor:
        """[R, H * Dh] -> [1, H, R, Dh], scaled as the scores are: here it is a small tensor."""
        return self._heads((x * self.scale).unsqueeze(0), self.n_heads)
