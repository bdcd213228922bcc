"""MinHash signatures and their bands (Broder 1997; banding as in Leskovec et al., Mining of Massive Datasets, 3.4).

Every hash is fixed: the same text has the same signature on every machine.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_BLOCK = 4096
"""Shingles hashed at a time: bounds the memory a long document takes."""
_CACHED_WORDS = 1_000_000


class Shingler:
    """Texts to sets of hashed word n-grams; words are lower-cased runs of letters, digits and underscores."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._factors = _odd_numbers(size, "shingle")
        self._hashes: dict[str, int] = {}

    def shingles(self, text: str) -> NDArray[np.uint64]:
        """uint64[n], sorted, each once. A text of fewer words than a shingle is one shingle; without words, none."""
        words = _WORD.findall(text.lower())
        if not words:
            return np.empty(0, np.uint64)
        hashes = np.fromiter(map(self._hash, words), np.uint64, len(words))
        size = min(self._size, len(words))
        mixed = np.zeros(len(words) - size + 1, np.uint64)
        for offset in range(size):
            mixed += hashes[offset : offset + len(mixed)] * self._factors[offset]
        return np.unique(_scramble(mixed))

    def _hash(self, word: str) -> int:
        found = self._hashes.get(word)
        if found is None:
            if len(self._hashes) >= _CACHED_WORDS:
                self._hashes.clear()
            found = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            self._hashes[word] = found
        return found


class MinHash:
    """Signatures of ``bands`` x ``rows`` minimum hashes."""

    def __init__(self, bands: int, rows: int) -> None:
        self.bands, self.rows = bands, rows
        self._factors = _odd_numbers(bands * rows, "minhash factor")[:, None]
        self._offsets = _odd_numbers(bands * rows, "minhash offset")[:, None]
        self._row_factors = _odd_numbers(rows, "band")

    def signature(self, shingles: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """uint32[bands * rows]; all ones for a text without shingles."""
        lowest = np.full(len(self._factors), 0xFFFFFFFF, np.uint32)
        for start in range(0, len(shingles), _BLOCK):
            block = shingles[None, start : start + _BLOCK]
            hashed = ((block * self._factors + self._offsets) >> np.uint64(32)).astype(np.uint32)
            np.minimum(lowest, hashed.min(axis=1), out=lowest)
        return lowest

    def band_keys(self, signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """uint64[n, bands] of uint32[n, bands * rows]: equal where two signatures agree in all rows of a band."""
        rows = signatures.reshape(len(signatures), self.bands, self.rows).astype(np.uint64)
        mixed = (_scramble(rows) * self._row_factors).sum(axis=2, dtype=np.uint64)
        return _scramble(mixed + np.arange(self.bands, dtype=np.uint64))


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Shared shingles over all shingles of two sorted sets; 0 when both are empty."""
    shared = np.intersect1d(one, other, assume_unique=True).size
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Chance that two texts of this Jaccard similarity share a band: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**rows) ** bands


def _odd_numbers(count: int, purpose: str) -> NDArray[np.uint64]:
    """Fixed odd 64-bit factors, drawn from a hash of their purpose."""
    digests = (hashlib.blake2b(f"{purpose} {i}".encode(), digest_size=8).digest() for i in range(count))
    return np.array([int.from_bytes(digest, "little") | 1 for digest in digests], np.uint64)


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
