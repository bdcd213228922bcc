"""How much of each item a text holds: the share of its distinct n-grams, by their size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.data.decontaminate.index import Hits, Index


@dataclass(frozen=True)
class Found:
    """An item in a text: the greatest share over the sizes, and the size of the n-grams that gave it."""

    item: int
    share: float
    n: int


class Totals:
    """Distinct n-grams of every item by size, those of ``common`` (bool by n-gram) left out."""

    def __init__(self, index: Index, common: NDArray[np.bool_] | None = None) -> None:
        self.common = np.zeros(len(index.keys), np.bool_) if common is None else common
        items, keys = _pairs(*index.items_of(np.arange(len(index.keys))), index)
        left = ~self.common[keys]
        self.items, self.keys = items[left], keys[left]
        """Item and number of each of its distinct n-grams, by item."""
        self._totals = _by_size(self.items, self.keys, index)

    @property
    def counted(self) -> list[tuple[int, int]]:
        """(item, n) of all items that have n-grams of n words."""
        return sorted(self._totals)

    def of(self, item: int, n: int) -> int:
        """Distinct n-grams of an item."""
        return self._totals.get((item, n), 0)


def items_in(hits: Hits, index: Index, totals: Totals, overlap: float) -> list[Found]:
    """Items of which the text holds at least ``overlap``, by item."""
    keys = np.unique(hits.key)
    keys = keys[~totals.common[keys]]
    if not len(keys):
        return []
    counts = _by_size(*_pairs(*index.items_of(keys), index), index)
    best: dict[int, Found] = {}
    for (item, n), number in sorted(counts.items()):
        share = number / totals.of(item, n)
        if share >= overlap and (item not in best or (share, n) > (best[item].share, best[item].n)):
            best[item] = Found(item, share, n)
    return [best[item] for item in sorted(best)]


def _pairs(
    items: NDArray[np.int64], keys: NDArray[np.int64], index: Index
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair once, by item and n-gram."""
    pairs = np.unique(items * max(1, len(index.keys)) + keys)
    return pairs // max(1, len(index.keys)), pairs % max(1, len(index.keys))


def _by_size(items: NDArray[np.int64], keys: NDArray[np.int64], index: Index) -> dict[tuple[int, int], int]:
    """(item, n) -> pairs."""
    both, counts = np.unique(
        items * 65 + index.sizes[keys], return_counts=True
    )  # n-grams have at most 64 words
    return {
        (pair // 65, pair % 65): count for pair, count in zip(both.tolist(), counts.tolist(), strict=True)
    }
