"""Longformer's attention: a sliding window, and tokens that see and are seen by all (arXiv 2004.05150, section 3).

Time and memory grow with T * window. The queries are taken in chunks of at least one window; each chunk attends to the
global tokens and to the keys within half a window of it, so no score of two tokens far apart is ever worked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.models.layers.attention import Attention, attend
from arriero.models.layers.known import values_known
from arriero.models.layers.linear import Linear

SMALLEST_CHUNK = 128
"""Queries at a time for narrow windows: fewer would be many small products."""


class Chunk(NamedTuple):
    """Queries [start, stop) and the keys [first, last) that they may see."""

    start: int
    stop: int
    first: int
    last: int
    mask: Tensor
    """Added to the scores: [B or 1, 1, stop - start, G + last - first], the G global tokens first."""


@dataclass(frozen=True)
class GlobalTokens:
    """Places of the tokens with global attention, filled up to the most that a row has."""

    places: Tensor
    """int64 [B, G]; 0 where a row has fewer."""
    real: Tensor
    """bool [B, G]; False where a row has fewer."""


@dataclass(frozen=True)
class WindowContext:
    """What all layers with the same window share in one pass."""

    chunks: list[Chunk]
    keep: Tensor | None
    """bool [B, T], False for padding; None: nothing is padding."""
    padding: Tensor | None
    """The same, to be added to scores: [B, 1, 1, T]."""
    globals: GlobalTokens | None


def find_globals(flags: Tensor) -> GlobalTokens | None:
    """Places of the True in ``flags`` bool [B, T]; None if there are none. In a plan one a row is assumed."""
    counts = flags.sum(1)
    most = int(counts.max()) if values_known(flags) else 1
    if not most:
        return None
    order = torch.sort(flags.long(), dim=1, descending=True, stable=True).indices[:, :most]
    real = torch.arange(most, device=flags.device) < counts[:, None]
    return GlobalTokens(order.masked_fill(~real, 0), real)


def window_context(
    length: int, window: int, keep: Tensor | None, flags: Tensor | None, like: Tensor
) -> WindowContext:
    """Plan attention over ``length`` tokens, ``window / 2`` to either side.

    Args:
        keep: bool [B, T], False for padding.
        flags: bool [B, T], True for tokens with global attention (never padding).
        like: has the device and dtype of the products.
    """
    tokens = None if flags is None else find_globals(flags)
    hidden = None if keep is None else ~keep
    if tokens is not None and flags is not None:  # they stand among the keys already
        hidden = flags if hidden is None else hidden | flags
    lowest = torch.finfo(like.dtype).min
    half = window // 2
    chunks = []
    for start in range(0, length, max(window, SMALLEST_CHUNK)):
        stop = min(start + max(window, SMALLEST_CHUNK), length)
        first, last = max(start - half, 0), min(stop + half, length)
        queries = torch.arange(start, stop, device=like.device)[:, None]
        away = (queries - torch.arange(first, last, device=like.device)).abs() > half
        away = away[None, None] if hidden is None else away | hidden[:, None, None, first:last]
        mask = torch.zeros(away.shape, dtype=like.dtype, device=like.device).masked_fill_(away, lowest)
        if tokens is not None:
            absent = torch.zeros(tokens.real.shape, dtype=like.dtype, device=like.device)
            absent = absent.masked_fill_(~tokens.real, lowest)[:, None, None, :]
            mask = torch.cat(
                [absent.expand(-1, -1, stop - start, -1), mask.expand(len(absent), -1, -1, -1)], 3
            )
        chunks.append(Chunk(start, stop, first, last, mask))
    padding = None
    if keep is not None:
        padding = torch.zeros(keep.shape, dtype=like.dtype, device=like.device).masked_fill_(~keep, lowest)
        padding = padding[:, None, None, :]
    return WindowContext(chunks, keep, padding, tokens)


class WindowAttention(Attention):
    """Self-attention within a window; global tokens have projections of their own."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        head_dim = d_model // n_heads
        super().__init__(d_model, n_heads, n_heads, head_dim, causal=False, qkv_bias=True, out_bias=True)
        self.global_q_proj = Linear(d_model, n_heads * head_dim, bias=True)
        self.global_k_proj = Linear(d_model, n_heads * head_dim, bias=True)
        self.global_v_proj = Linear(d_model, n_heads * head_dim, bias=True)

    def forward(self, x: Tensor, context: WindowContext) -> Tensor:  # type: ignore[override]
        """x [B, T, d_model] -> [B, T, d_model]. Padding attends to nothing: its result is the output's bias."""
        q, k, v = (self._heads(f(x), self.n_heads) for f in (self.q_proj, self.k_proj, self.v_proj))
        out = self._local(q, k, v, context)
        if context.keep is not None:
            out = out * context.keep[:, None, :, None]
        out = out.transpose(1, 2)
        if context.globals is not None:
            out = self._overwrite_globals(out, x, context, context.globals)
        result: Tensor = self.o_proj(out.flatten(2))
        return result

    def _local(self, q: Tensor, k: Tensor, v: Tensor, context: WindowContext) -> Tensor:
        """q, k, v [B, H, T, Dh] -> [B, H, T, Dh]: every token over its window and the global tokens."""
        tokens = context.globals
        first_k, first_v = (None, None) if tokens is None else (_pick(k, tokens), _pick(v, tokens))
        parts = []
        for chunk in context.chunks:
            keys, values = k[:, :, chunk.first : chunk.last], v[:, :, chunk.first : chunk.last]
            if first_k is not None and first_v is not None:
                keys, values = torch.cat([first_k, keys], 2), torch.cat([first_v, values], 2)
            parts.append(attend(q[:, :, chunk.start : chunk.stop], keys, values, chunk.mask, causal=False))
        return torch.cat(parts, 2)

    def _overwrite_globals(
        self, out: Tensor, x: Tensor, context: WindowContext, tokens: GlobalTokens
    ) -> Tensor:
        """Results of the global tokens, over all the sequence, in place of those of their window."""
        rows = torch.arange(len(x), device=x.device)[:, None].expand_as(tokens.places)
        q = self._heads(self.global_q_proj(x[rows, tokens.places]), self.n_heads)
        k, v = (self._heads(f(x), self.n_heads) for f in (self.global_k_proj, self.global_v_proj))
        seen = attend(q, k, v, context.padding, causal=False).transpose(1, 2)
        # what stands for no token is written to one place too many, which is cut off again
        places = torch.where(tokens.real, tokens.places, x.shape[1])[:, :, None, None].expand_as(seen)
        return F.pad(out, (0, 0, 0, 0, 0, 1)).scatter(1, places, seen.to(out.dtype))[:, :-1]


def _pick(x: Tensor, tokens: GlobalTokens) -> Tensor:
    """The global tokens' vectors: x [B, H, T, Dh] -> [B, H, G, Dh]."""
    index = tokens.places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
    return x.gather(2, index)
