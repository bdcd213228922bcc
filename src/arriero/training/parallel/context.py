"""Attention over sequences that are cut over processes: keys and values are gathered, queries stay where they are.

As in Llama 3 (arXiv 2407.21783, section 3.3.2): simpler than a ring, any mask will do, and with grouped heads keys and
values are small beside the queries.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from arriero.models.layers.attention import attend
from arriero.models.layers.masks import AttentionRule, segment_positions
from arriero.models.layers.precision import product_dtype
from arriero.training.parallel.collectives import gather_along
from arriero.training.parallel.sequence import own_places

_PLAIN = AttentionRule(None, None)


class GatheredAttention:
    """Stands where a cache would (``models.protocol.AttentionCache``), for one pass over a batch.

    Args:
        length: of the whole sequences, T.
        segments: int64 [B, T] or None, as for ``Decoder.hidden``.
    """

    def __init__(self, group: dist.ProcessGroup, length: int, segments: Tensor | None) -> None:
        self._group = group
        self._segments = segments
        of = group.size()
        self._keys = torch.cat([own_places(length, part, of) for part in range(of)])
        self._queries = own_places(length, group.rank(), of)
        self._mask: Tensor | None = None

    def positions(self, rows: int) -> Tensor:
        """Positions int64 [B, T / n] of this process' tokens, as ``Decoder.hidden`` counts them."""
        if self._segments is None:
            return self._queries.expand(rows, -1)
        return segment_positions(self._segments)[:, self._queries.to(self._segments.device)]

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: AttentionRule | None = None
    ) -> Tensor:
        """q [B, H, T / n, Dh], k, v [B, Hkv, T / n, Dh] -> [B, H, T / n, Dh]."""
        keys, values = gather_along(torch.cat([k, v], dim=3), 2, self._group).chunk(2, dim=3)
        if self._mask is None:  # one for all blocks
            self._mask = self._make_mask(product_dtype(q), q.device, rule or _PLAIN)
        return attend(q, keys, values, self._mask, causal=False)

    def _make_mask(self, dtype: torch.dtype, device: torch.device, rule: AttentionRule) -> Tensor:
        queries, keys = self._queries.to(device), self._keys.to(device)
        distance = queries[:, None] - keys[None, :]
        seen = (distance >= 0).unsqueeze(0)
        if self._segments is not None:
            seen = seen & (self._segments[:, queries].unsqueeze(2) == self._segments[:, keys].unsqueeze(1))
        return rule.apply(seen, distance, dtype)
