"""Which documents are duplicates, and of which survivor.

Exact duplicates have the same 128-bit hash of their text. Near-duplicates share a MinHash band *and* have a true
Jaccard similarity over the threshold; survivors are chosen longest first (then first come), and a document falls
only to a survivor that it is itself similar to. So chains of similar pairs never melt into one cluster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.minhash import MinHash, jaccard

Shingles = Callable[[int], NDArray[np.uint64]]
"""Document number -> its sorted shingle hashes."""


@dataclass(frozen=True)
class Duplicate:
    """A document that falls, and the survivor (a document number) that stands for it."""

    reason: Literal["exact_duplicate", "near_duplicate"]
    survivor: int
    similarity: float
    threshold: float


def exact_duplicates(digests: Sequence[bytes]) -> dict[int, Duplicate]:
    """Document number -> duplicate, for all but the first document of each digest."""
    first: dict[bytes, int] = {}
    found = {}
    for number, digest in enumerate(digests):
        survivor = first.setdefault(digest, number)
        if survivor != number:
            found[number] = Duplicate("exact_duplicate", survivor, 1.0, 1.0)
    return found


def near_duplicates(
    documents: NDArray[np.int64],
    lengths: NDArray[np.int64],
    signatures: NDArray[np.uint32],
    shingles: Shingles,
    minhash: MinHash,
    threshold: float,
    tick: Callable[[int], None] = lambda done: None,
) -> dict[int, Duplicate]:
    """Document number -> duplicate, among ``documents`` (their numbers).

    ``lengths`` int64 and ``signatures`` uint32[., bands * rows] are indexed by document number.
    ``tick`` is called with the count of documents looked at.
    """
    keys = minhash.band_keys(signatures[documents])
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    shared = (counts > 1)[inverse].reshape(keys.shape)  # a key that occurs once leads to no candidate
    order = np.lexsort((documents, -lengths[documents]))
    kept_by_key: defaultdict[int, list[int]] = defaultdict(list)
    found: dict[int, Duplicate] = {}
    for done, row in enumerate(order.tolist()):
        tick(done)
        own = keys[row][shared[row]].tolist()
        number = int(documents[row])
        if not own or not len(own_shingles := shingles(number)):
            continue
        candidates = dict.fromkeys(survivor for key in own for survivor in kept_by_key[key])
        for survivor in candidates:
            similarity = jaccard(own_shingles, shingles(survivor))
            if similarity >= threshold:
                found[number] = Duplicate("near_duplicate", survivor, similarity, threshold)
                break
        else:
            for key in own:
                kept_by_key[key].append(number)
    return found
