"""T5's relative positions: a learned bias on the scores for each bucket of distances (arXiv 1910.10683, section 2.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from arriero.models.layers.embedding import Embedding


def relative_buckets(distances: Tensor, n_buckets: int, max_distance: int, both_ways: bool) -> Tensor:
    """Bucket of each distance (place of the key minus place of the query): int64 of any shape -> int64 in
    [0, n_buckets).

    Half of the buckets (of either direction) hold one distance each; the others grow with its logarithm up to
    ``max_distance``, beyond which all share the last one.

    Args:
        both_ways: keys after the query have buckets of their own (an encoder); else they count as distance 0.
    """
    if both_ways:
        n_buckets //= 2
        offset = (distances > 0).long() * n_buckets
        distances = distances.abs()
    else:
        offset = torch.zeros_like(distances)
        distances = distances.clamp(max=0).neg()
    exact = n_buckets // 2
    # clamped to 1 so that distance 0, whose bucket is an exact one, does not take a logarithm of zero
    growth = torch.log(distances.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    wide = (exact + (growth * (n_buckets - exact)).long()).clamp(max=n_buckets - 1)
    return offset + torch.where(distances < exact, distances, wide)


class RelativeBias(nn.Module):
    """One bias for each bucket and head, shared by all layers of a stack: ``weight`` [n_buckets, n_heads]."""

    def __init__(self, n_buckets: int, max_distance: int, n_heads: int, both_ways: bool) -> None:
        super().__init__()
        self.n_buckets, self.max_distance, self.both_ways = n_buckets, max_distance, both_ways
        self.table = Embedding(n_buckets, n_heads)

    def forward(self, queries: int, keys: int) -> Tensor:
        """Biases [1, H, queries, keys] on the scores; the last query stands at the last key's place."""
        device = self.table.weight.device
        places = torch.arange(keys, device=device)
        distances = places[None, :] - places[keys - queries :, None]
        buckets = relative_buckets(distances, self.n_buckets, self.max_distance, self.both_ways)
        return self.table(buckets).permute(2, 0, 1).unsqueeze(0)
