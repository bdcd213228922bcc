"""How many copies of a document there are: by its identifier and the seed alone."""

from __future__ import annotations

import hashlib
import math


def copies(id: str, epochs: float, seed: int) -> int:
    """The whole part of ``epochs``, and one more with the probability of the rest.

    The same document gets the same number whatever the order, the worker or the other documents are; and no fewer copies
    when ``epochs`` rises.
    """
    whole = math.floor(epochs)
    rest = epochs - whole
    return whole + (1 if rest and _drawn(id, seed) < rest else 0)


def _drawn(id: str, seed: int) -> float:
    """Uniform in [0, 1)."""
    digest = hashlib.blake2b(
        id.encode("utf-8", "surrogatepass"), digest_size=8, key=seed.to_bytes(8, "little"), person=b"quality"
    ).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
