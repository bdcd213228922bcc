"""Attention of one step's rows over the blocks of the pool, in plain torch.

Each sequence attends over its own blocks alone. Sequences that bring few rows, above all those that take one token
after the other, are done together: block by block, over all of their blocks at once, and the parts of each sequence
are put together by their greatest scores (Dao et al., Flash-Decoding, 2023). Their keys and values are
read in place where the blocks lie side by side. Long runs of rows (prompts) go one sequence at a time.

The query heads that share a key head are folded into the rows: torch's own grouping takes bfloat16 eight times as long
on a CPU.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from arriero.inference.kv_pool import BLOCK, KVPool, blocks_of, quantise
from arriero.inference.rows import Rows, Span
from arriero.models.layers.attention import attend
from arriero.models.layers.masks import AttentionRule

FEW_ROWS = 8
"""Spans of up to so many rows are attended block by block: verified guesses as well as single tokens."""


class PoolAttention:
    """Stores a step's keys and values and attends; an ``AttentionCache`` of models.protocol."""

    def __init__(self, pool: KVPool, rows: Rows) -> None:
        self._pool, self._rows = pool, rows
        device = pool.shape.device
        places = [(s.blocks[p // BLOCK], p % BLOCK) for s in rows.spans for p in _positions(s)]
        self._blocks, self._places = torch.tensor(places, device=device).unbind(1)
        self._few: list[_FewRows] | None = None

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """Store ``k, v [1,Hkv,M,Dh]`` of all rows and attend with ``q [1,H,M,Dh]``; gives ``[1,H,M,Dh]``."""
        self._store(layer, k[0].transpose(0, 1), v[0].transpose(0, 1))
        spans = self._rows.spans
        if rule is not None and not rule.shared:
            few, many = [], spans
        else:
            few = self._groups(rule)
            many = [s for s in spans if s.count > FEW_ROWS]
        out = torch.empty_like(q)
        for group in few:
            group.attend(self._pool, layer, q, out)
        for span in many:
            own = slice(span.first, span.first + span.count)
            out[:, :, own] = self._attend_span(layer, q[:, :, own], span, _rule_of(rule, own))
        return out

    def _store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """k, v: [M, Hkv, Dh]."""
        pool, at = self._pool, (self._blocks, slice(None), self._places)
        parts = ((k, pool.keys, pool.key_scales), (v, pool.values, pool.value_scales))
        for new, stored, scales in parts:
            if scales is None:
                stored[layer][at] = new.to(stored.dtype)
            else:
                stored[layer][at], scales[layer][at] = quantise(new)

    def _groups(self, rule: AttentionRule | None) -> list[_FewRows]:
        """Spans of few rows, by their number; made in the first layer, because its rule is that of all."""
        if self._few is None:
            counts = sorted({s.count for s in self._rows.spans if s.count <= FEW_ROWS})
            self._few = [
                _FewRows([s for s in self._rows.spans if s.count == count], rule, self._pool.shape.device)
                for count in counts
            ]
        return self._few

    def _attend_span(self, layer: int, q: Tensor, span: Span, rule: AttentionRule | None) -> Tensor:
        """q [1,H,T,Dh] of one span -> [1,H,T,Dh]."""
        stop = span.stored + span.count
        first = _first_seen(span.stored, rule)
        blocks = span.blocks[first : blocks_of(stop)]
        keys, values = (part[:, : stop - first * BLOCK] for part in self._gather(layer, blocks, q.dtype))
        kv_heads, group = len(keys), q.shape[1] // len(keys)
        # [group, Hkv, T, Dh]: heads of a group see the same keys, which are not copied for that
        folded = q[0].unflatten(0, (kv_heads, group)).transpose(0, 1)
        mask = self._span_mask(span, first, stop, rule, q)
        if mask is not None:
            by_head = len(mask) > 1
            mask = mask.unflatten(0, (kv_heads, group)).transpose(0, 1) if by_head else mask[0]
        shape = (group, *keys.shape)
        out = attend(folded, keys.expand(shape), values.expand(shape), mask, mask is None)
        return out.transpose(0, 1).reshape(q.shape)

    def _span_mask(
        self, span: Span, first: int, stop: int, rule: AttentionRule | None, q: Tensor
    ) -> Tensor | None:
        """Additive [1 or H, T, stored]; None where plain causality from the first token on will do."""
        if rule is None and not span.stored:
            return None
        places = torch.arange(first * BLOCK, stop, device=q.device)
        distance = places[span.stored - first * BLOCK :, None] - places
        mask = (rule or AttentionRule(None, None)).apply(distance >= 0, distance, q.dtype)
        return mask[0] if mask.ndim == 4 else mask

    def _gather(self, layer: int, blocks: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of a sequence's blocks, each [Hkv, len(blocks) * BLOCK, Dh]."""
        keys, values = _read(self._pool, layer, _picked(blocks, self._pool.shape.device), dtype)
        return keys.transpose(0, 1).flatten(1, 2), values.transpose(0, 1).flatten(1, 2)


class _FewRows:
    """Spans that all have ``count`` rows, attended block by block."""

    def __init__(self, spans: list[Span], rule: AttentionRule | None, device: str) -> None:
        seen = [
            (block, owner, order)
            for owner, s in enumerate(spans)
            for order, block in enumerate(s.blocks[: blocks_of(s.stored + s.count)])
            if order >= _first_seen(s.stored, rule)
        ]
        seen.sort()  # sequences that run together mostly lie side by side: then nothing is copied
        blocks, owners, orders = zip(*seen, strict=True)
        self._single = len(spans) == 1
        self._picked = _picked(list(blocks), device)
        self._owner = torch.tensor(owners, device=device)
        rows = [list(range(s.first, s.first + s.count)) for s in spans]
        self._rows = torch.tensor(rows, device=device)
        places = torch.tensor(orders, device=device)[:, None] * BLOCK + torch.arange(BLOCK, device=device)
        asking = torch.tensor([list(_positions(s)) for s in spans], device=device)[self._owner]
        distance = asking[:, :, None] - places[:, None, :]
        self._mask = (rule or AttentionRule(None, None)).apply(distance >= 0, distance, torch.float32)

    def attend(self, pool: KVPool, layer: int, q: Tensor, out: Tensor) -> None:
        """Attend with these spans' rows of q [1,H,M,Dh] and write the result into theirs of ``out``."""
        keys, values = _read(pool, layer, self._picked, q.dtype)
        heads, kv_heads, width = q.shape[1], keys.shape[1], q.shape[3]
        count = self._rows.shape[1]
        asked = q[0, :, self._rows] * width**-0.5  # [H, S, count, Dh]
        asked = asked.transpose(0, 1).reshape(len(self._rows), kv_heads, -1, width)
        scores = torch.matmul(asked[self._owner], keys.transpose(2, 3)).float()  # [T, Hkv, rows, BLOCK]
        scores = scores.view(len(scores), heads, count, BLOCK).add_(self._mask)
        weights, total = self._normalise(scores)
        parts = torch.matmul(weights.view(len(scores), kv_heads, -1, BLOCK).to(q.dtype), values)
        whole = self._sum(parts.float().view(len(scores), heads, count, width)) / total
        out[0, :, self._rows] = whole.transpose(0, 1).to(out.dtype)

    def _normalise(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """exp(score - the row's greatest) [T,H,count,BLOCK], and their sums by sequence [S,H,count,1]."""
        greatest = scores.amax(-1, keepdim=True)
        if self._single:
            greatest = greatest.amax(0, keepdim=True)
        else:
            index = self._owner[:, None, None, None].expand_as(greatest)
            shape = (len(self._rows), *greatest.shape[1:])
            start = torch.full(shape, -torch.inf, device=scores.device)
            greatest = start.scatter_reduce(0, index, greatest, "amax")[self._owner]
        weights = scores.sub_(greatest).exp_()
        return weights, self._sum(weights.sum(-1, keepdim=True))

    def _sum(self, parts: Tensor) -> Tensor:
        """[T, ...] of all blocks -> [S, ...] of all sequences."""
        if self._single:
            return parts.sum(0, keepdim=True)
        zeros = parts.new_zeros(len(self._rows), *parts.shape[1:])
        return zeros.index_add_(0, self._owner, parts)


def _positions(span: Span) -> range:
    return range(span.stored, span.stored + span.count)


def _first_seen(position: int, rule: AttentionRule | None) -> int:
    """The first block that the token at ``position`` sees anything of."""
    if rule is None or rule.window is None:
        return 0
    return max(0, position - rule.window + 1) // BLOCK


def _rule_of(rule: AttentionRule | None, rows: slice) -> AttentionRule | None:
    if rule is None or rule.by_distance is None:
        return rule
    return replace(rule, by_distance=rule.by_distance[:, :, rows])


def _picked(blocks: list[int], device: str) -> slice | Tensor:
    """The blocks as a slice, which copies nothing, where they lie side by side."""
    if blocks == list(range(blocks[0], blocks[0] + len(blocks))):
        return slice(blocks[0], blocks[0] + len(blocks))
    return torch.tensor(blocks, device=device)


def _read(pool: KVPool, layer: int, picked: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Keys and values of some blocks, each [blocks, Hkv, BLOCK, Dh], in ``dtype``."""
    keys, values = pool.keys[layer][picked].to(dtype), pool.values[layer][picked].to(dtype)
    if pool.key_scales is None or pool.value_scales is None:
        return keys, values
    scales = pool.key_scales[layer][picked], pool.value_scales[layer][picked]
    return keys * scales[0].to(dtype).unsqueeze(-1), values * scales[1].to(dtype).unsqueeze(-1)
