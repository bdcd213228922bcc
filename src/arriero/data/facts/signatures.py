"""MinHash signatures and their bands (Broder 1997; banding as in Leskovec et al., Mining of Massive Datasets, 3.4).

A signature's value is the upper half of the least ``shingle * factor + offset`` modulo 2^64; shingles are mixed once
more before (:func:`arriero.data.facts.hashing.scramble`), without which the estimate is worse than theory says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.hashing import odd_numbers, scramble

_BLOCK = 4096
"""Shingles hashed at a time: bounds the memory a long document takes."""


def factors_and_offsets(n_hashes: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """uint64[n_hashes] each."""
    return odd_numbers(n_hashes, "minhash factor"), odd_numbers(n_hashes, "minhash offset")


def sign(shingles: NDArray[np.uint64], n_hashes: int) -> NDArray[np.uint32]:
    """uint32[n_hashes]; all ones for a text without shingles. In numpy."""
    factors, offsets = (array[:, None] for array in factors_and_offsets(n_hashes))
    lowest = np.full(n_hashes, 0xFFFFFFFF, np.uint32)
    for start in range(0, len(shingles), _BLOCK):
        hashed = shingles[None, start : start + _BLOCK] * factors + offsets
        np.minimum(lowest, (hashed.min(axis=1) >> np.uint64(32)).astype(np.uint32), out=lowest)
    return lowest


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint64]:
    """uint64[n, bands] of uint32[n, bands * rows]: equal where two signatures agree in all rows of a band."""
    values = signatures.reshape(len(signatures), bands, rows).astype(np.uint64)
    mixed = (scramble(values) * odd_numbers(rows, "band")).sum(axis=2, dtype=np.uint64)
    return scramble(mixed + np.arange(bands, dtype=np.uint64))


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Shared shingles over all shingles of two sorted sets; 0 when both are empty."""
    shared = np.intersect1d(one, other, assume_unique=True).size
    union = len(one) + len(other) - shared
    return shared / union if union else 0.0


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Chance that two texts of this Jaccard similarity share a band: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**rows) ** bands
