"""Attention of whole texts laid end to end in one row: each text by itself, those of like length in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arriero.models.layers.attention import attend
from arriero.models.layers.masks import AttentionRule

LIKE = 0.75
"""Texts are attended together while the shortest has at least this share of the longest one's tokens."""


class PackedAttention:
    """An ``AttentionCache`` of models.protocol that keeps nothing.

    Args:
        lengths: tokens of the texts, in the order in which they lie; best sorted, so that neighbours are alike.
        causal: a token sees itself and what is before it in its text; else all of its text.
    """

    def __init__(self, lengths: Sequence[int], causal: bool, device: torch.device | str = "cpu") -> None:
        self._buckets = [_Bucket.of(start, part, causal, device) for start, part in _alike(lengths)]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """q [1, H, N, Dh] over k, v [1, Hkv, N, Dh] -> [1, H, N, Dh]; ``rule`` narrows causal attention."""
        queries, keys, values = (x[0].transpose(0, 1) for x in (q, k, v))
        parts = [bucket.attend(queries, keys, values, rule) for bucket in self._buckets]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out.transpose(0, 1).unsqueeze(0)


@dataclass
class _Bucket:
    """Neighbouring texts of like length.

    Attributes:
        start, stop: their tokens. count: how many texts. longest: tokens of the longest.
        spread: [count * longest], the token at each place of the padded texts; None: all are of one length.
        collect: [stop - start], the place of each token among the padded ones.
        hidden: additive mask [count, 1, 1, longest] of the padding; None where causality hides it, or there is none.
    """

    start: int
    stop: int
    count: int
    longest: int
    causal: bool
    spread: Tensor | None = None
    collect: Tensor | None = None
    hidden: Tensor | None = None

    @classmethod
    def of(cls, start: int, lengths: Sequence[int], causal: bool, device: torch.device | str) -> _Bucket:
        count, longest = len(lengths), max(lengths)
        bucket = cls(start, start + sum(lengths), count, longest, causal)
        if min(lengths) == longest:
            return bucket
        sizes = torch.tensor(lengths)
        places = torch.arange(longest)
        real = places < sizes[:, None]
        first = start + sizes.cumsum(0) - sizes
        bucket.spread = torch.where(real, first[:, None] + places, first[:, None]).flatten().to(device)
        bucket.collect = real.flatten().nonzero().flatten().to(device)
        if not causal:
            mask = torch.zeros(count, 1, 1, longest).masked_fill_(~real[:, None, None], float("-inf"))
            bucket.hidden = mask.to(device)
        return bucket

    def attend(self, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None) -> Tensor:
        """q [N, H, Dh], k and v [N, Hkv, Dh] of all tokens -> [stop - start, H, Dh]."""
        mask = self._mask(q, rule)
        out = attend(self._padded(q), self._padded(k), self._padded(v), mask, self.causal)
        rows = out.transpose(1, 2).flatten(0, 1)
        return rows if self.collect is None else rows.index_select(0, self.collect)

    def _padded(self, x: Tensor) -> Tensor:
        rows = x[self.start : self.stop] if self.spread is None else x.index_select(0, self.spread)
        return rows.unflatten(0, (self.count, self.longest)).transpose(1, 2)

    def _mask(self, q: Tensor, rule: AttentionRule | None) -> Tensor | None:
        if not self.causal:
            return None if self.hidden is None else self.hidden.to(q.dtype)
        if rule is None:
            return None
        places = torch.arange(self.longest, device=q.device)
        distance = places[:, None] - places
        return rule.apply(distance >= 0, distance, q.dtype).unsqueeze(0)


def _alike(lengths: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """First token and lengths of each run of neighbours that are alike."""
    begin = token = 0
    while begin < len(lengths):
        end, least, most = begin, lengths[begin], lengths[begin]
        while end < len(lengths):
            least, most = min(least, lengths[end]), max(most, lengths[end])
            if least < LIKE * most:
                break
            end += 1
        yield token, lengths[begin:end]
        token += sum(lengths[begin:end])
        begin = end
