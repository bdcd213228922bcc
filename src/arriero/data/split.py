"""Train or validation: decided by a hash of the text, so that adding a document moves no other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError


def position(digest: bytes, seed: int) -> float:
    """Where a text falls in [0, 1), by its digest and the seed."""
    drawn = hashlib.blake2b(digest, digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(drawn, "little") / 2**64


def validation_mask(digests: Sequence[bytes], share: float, seed: int) -> NDArray[np.bool_]:
    """bool[n]: which documents go to validation, about ``share`` of them.

    In a corpus so small that chance leaves one side empty, the document nearest to the border goes there.

    Raises:
        ArrieroError: one document cannot be split in two.
    """
    positions = np.array([position(digest, seed) for digest in digests])
    mask = positions < share
    if share == 0 or len(digests) == 0:
        return mask
    if len(digests) == 1:
        raise ArrieroError(
            "one document is left after curation, and it cannot be on both sides of the split:"
            " cut the text into more documents (sources: split), or set validation_share to 0"
        )
    if not mask.any():
        mask[positions.argmin()] = True
    elif mask.all():
        mask[positions.argmax()] = False
    return mask
