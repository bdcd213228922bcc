"""Samples of a fixed size that do not depend on the order in which things come: the smallest hashes stay."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def sample_hash(seed: int, id: str) -> int:
    """64 bits of BLAKE2b over the seed and the identifier."""
    digest = hashlib.blake2b(f"{seed}:{id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Reservoir(Generic[K, V]):
    """The ``size`` members of every group whose ids hash smallest: a uniform sample (bottom-k; Cohen and Kelley
    2007), the same for any order, any number of workers and any cut into parts."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self._groups: dict[K, list[tuple[int, str, V]]] = {}

    def offer(self, group: K, id: str, value: V) -> None:
        """A member comes; it stays if its hash is among the smallest of its group."""
        self._push(group, (-sample_hash(self._seed, id), id, value))

    def merge(self, other: Reservoir[K, V]) -> None:
        """Take in the members of another reservoir of the same seed and size."""
        for group, heap in other._groups.items():
            for item in heap:
                self._push(group, item)

    def _push(self, group: K, item: tuple[int, str, V]) -> None:
        if not self._size:
            return
        heap = self._groups.setdefault(group, [])
        if len(heap) < self._size:
            heapq.heappush(heap, _Entry(item))
        elif item[:2] > heap[0][:2]:
            heapq.heapreplace(heap, _Entry(item))

    def items(self) -> Iterator[tuple[K, list[V]]]:
        """Groups in order, the members of each by their hashes."""
        for group in sorted(self._groups, key=repr):
            yield group, [value for _, _, value in sorted(self._groups[group], key=lambda e: (-e[0], e[1]))]


class _Entry(tuple[Any, ...]):
    """Compared by hash and id alone; the value may be of any type."""

    __slots__ = ()

    def __lt__(self, other: tuple[Any, ...]) -> bool:
        return self[:2] < tuple(other)[:2]
