"""Train or validation: decided by a hash of the text, so that adding a document moves no other."""

from __future__ import annotations

import hashlib


def position(digest: bytes, seed: int) -> float:
    """Where a text falls in [0, 1), by its digest and the seed."""
    drawn = hashlib.blake2b(digest, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(drawn, "little") / 2**64
