"""A step's keys, values and attention on a GPU; each an ``AttentionCache`` of models.protocol."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from arriero.inference.cuda import paged_attention
from arriero.inference.cuda.places import Places, places_of, selected
from arriero.inference.kv_pool import KVPool, blocks_of
from arriero.inference.pool_attention import FEW_ROWS, PoolAttention
from arriero.inference.rows import Rows, Span
from arriero.models.layers.masks import AttentionRule


class GraphAttention:
    """Rows that take one token each, whose places are read from fixed memory, so that a step can be captured."""

    def __init__(self, pool: KVPool, places: Places) -> None:
        self._pool, self._places = pool, places

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """q [1,H,M,Dh], k, v [1,Hkv,M,Dh] -> [1,H,M,Dh]."""
        paged_attention.store(self._pool, layer, k[0].transpose(0, 1), v[0].transpose(0, 1), self._places)
        out = _paged(self._pool, layer, q[0].transpose(0, 1), self._places, rule)
        return out.transpose(0, 1).unsqueeze(0)


class PagedAttention(PoolAttention):
    """Rows of any spans. Those of few rows go through the paged kernel, each by itself; those of many through torch's
    attention, which is FlashAttention where there is no mask to add.
    """

    def __init__(self, pool: KVPool, rows: Rows, part: int) -> None:
        super().__init__(pool, rows)
        self._places = places_of(rows, pool.shape.device, part)
        few = [row for s in rows.spans if s.count <= FEW_ROWS for row in range(s.first, s.first + s.count)]
        self._index = (
            None if len(few) == len(rows) else torch.tensor(few, dtype=torch.int64, device=pool.shape.device)
        )
        self._some = self._places if self._index is None else selected(self._places, self._index)

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store ``k, v [1,Hkv,M,Dh]`` of all rows and attend with ``q [1,H,M,Dh]``; gives ``[1,H,M,Dh]``."""
        paged_attention.store(self._pool, layer, k[0].transpose(0, 1), v[0].transpose(0, 1), self._places)
        rows = q[0].transpose(0, 1)
        if self._index is None:
            return _paged(self._pool, layer, rows, self._some, rule).transpose(0, 1).unsqueeze(0)
        out = torch.empty_like(rows, memory_format=torch.contiguous_format)
        if len(self._index):
            out[self._index] = _paged(self._pool, layer, rows[self._index], self._some, rule)
        out = out.transpose(0, 1).unsqueeze(0)
        for span in self._rows.spans:
            if span.count > FEW_ROWS:
                own = slice(span.first, span.first + span.count)
                out[:, :, own] = self._attend_span(layer, q[:, :, own], span, rule)
        return out

    def _attend_span(self, layer: int, q: Tensor, span: Span, rule: AttentionRule | None) -> Tensor:
        stop = span.stored + span.count
        if rule is not None and rule.slopes is None and (rule.window is None or rule.window >= stop):
            rule = None  # the window shuts nothing out
        if rule is not None:
            return super()._attend_span(layer, q, span, rule)
        keys, values = (
            part[:, :stop] for part in self._gather(layer, span.blocks[: blocks_of(stop)], q.dtype)
        )
        kv_heads, group = len(keys), q.shape[1] // len(keys)
        folded = q[0].unflatten(0, (kv_heads, group)).transpose(0, 1)
        shape = (group, *keys.shape)
        mask = causal_lower_right(span.count, stop)
        out = F.scaled_dot_product_attention(folded, keys.expand(shape), values.expand(shape), mask)
        return out.transpose(0, 1).reshape(q.shape)


def _paged(pool: KVPool, layer: int, q: Tensor, places: Places, rule: AttentionRule | None) -> Tensor:
    window, slopes = (None, None) if rule is None else (rule.window, rule.slopes)
    return paged_attention.attend(pool, layer, q, places, window, slopes)
