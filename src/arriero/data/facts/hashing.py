"""Hashes of words and of shingles: fixed, the same on every machine and in the compiled kernel (``text_basics.h``)."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def hash_of(data: bytes) -> int:
    """64 bits of ``data``: eight bytes at a time (zeros behind the last), h = (h ^ next) * K, h ^= h >> 32; then the
    length and SplitMix64's finaliser."""
    h = 0
    for start in range(0, len(data), 8):
        h = (h ^ int.from_bytes(data[start : start + 8], "little")) * 0xD6E8FEB86659FD93 & _MASK
        h ^= h >> 32
    h ^= len(data) * 0x9E3779B97F4A7C15 & _MASK
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & _MASK
    return h ^ (h >> 31)


def scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): a bijection in which every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@cache
def odd_numbers(count: int, purpose: str) -> NDArray[np.uint64]:
    """Fixed odd 64-bit factors, drawn from a hash of their purpose."""
    digests = (hashlib.blake2b(f"{purpose} {i}".encode(), digest_size=8).digest() for i in range(count))
    return np.array([int.from_bytes(digest, "little") | 1 for digest in digests], np.uint64)
