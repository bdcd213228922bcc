"""The normalised text, its shingles and their signature."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.fallback import flags as f
from arriero.data.facts.fallback.words import pieces
from arriero.data.facts.hashing import hash_of, odd_numbers, scramble
from arriero.data.facts.settings import FactsSettings
from arriero.data.facts.signatures import sign
from arriero.data.facts.tables import tables


@cache
def _number(ascii_only: bool) -> re.Pattern[str]:
    digits = "0-9" if ascii_only else f.digits()
    return re.compile(f"[{digits}]+(?:[.,\u060c\u066b\u2396-\u2398][{digits}]+)?")


def normalise(data: bytes) -> bytes:
    """See :func:`arriero.data.facts.normalised_text`."""
    text = data.decode()
    wide_digits = not text.isascii() and bool(
        np.any((f.flags_of(text) & (f.DIGIT | f.ASCII_DIGIT)) == f.DIGIT)
    )
    text = _number(not wide_digits).sub("0", text)
    codes = f.code_points(text)
    mapped = tables().fold[f.places(codes)].astype(np.int64)
    mapped = np.where(mapped == 0, codes, mapped)
    folded = "".join(map(chr, mapped[mapped >= 0].tolist()))
    return " ".join(part for part in folded.split(" ") if part).encode()


def shingles(data: bytes, settings: FactsSettings) -> NDArray[np.uint64]:
    """uint64: hashes of the shingles, in order, with repetitions."""
    words = [piece for token in normalise(data).decode().split(" ") if token for piece, _ in pieces(token)]
    if not words:
        return np.empty(0, np.uint64)
    known = {word: hash_of(word.encode()) for word in set(words)}
    hashes = np.array([known[word] for word in words], np.uint64)
    size = min(settings.shingle_words, len(words))
    factors = odd_numbers(settings.shingle_words, "shingle")
    mixed = np.zeros(len(words) - size + 1, np.uint64)
    for offset in range(size):
        mixed += hashes[offset : offset + len(mixed)] * factors[offset]
    return scramble(mixed)


def signature(data: bytes, settings: FactsSettings) -> NDArray[np.uint32]:
    """uint32[bands * rows]."""
    return sign(shingles(data, settings), settings.bands * settings.rows)
