"""The compiled kernel for given settings, where there is one; text as the bytes that it takes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from arriero.data.facts.hashing import hash_of, odd_numbers
from arriero.data.facts.settings import FactsSettings
from arriero.data.facts.signatures import factors_and_offsets
from arriero.data.facts.tables import tables
from arriero.native.text import TextKernel, TextSettings, available


def kernel(settings: FactsSettings) -> TextKernel | None:
    """The kernel, or None where the native library is not to be used."""
    return _kernel(settings) if available() else None


@lru_cache(maxsize=64)
def _kernel(settings: FactsSettings) -> TextKernel:
    factors, offsets = factors_and_offsets(settings.bands * settings.rows)
    stop_words = sorted({hash_of(word.encode()) for word in settings.stop_words})
    return TextKernel(
        tables(),
        TextSettings(
            stop_words=np.array(stop_words, np.uint64),
            shingle_factors=odd_numbers(settings.shingle_words, "shingle"),
            factors=factors,
            offsets=offsets,
            by_space=settings.words == "space",
        ),
    )


def to_bytes(text: str | bytes) -> bytes:
    """Valid UTF-8: bytes that are not become U+FFFD as Python's decoder says, lone surrogates become ?."""
    if isinstance(text, str):
        return text.encode("utf-8", "replace")
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return text
