"""How much a text repeats itself (Rae et al. 2021, table A1), by datatrove's definitions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.fallback import flags as f


def count_ngrams(words: Sequence[str]) -> dict[str, int]:
    """Characters of the most frequent 2- to 4-grams and of repeated 5- to 10-grams."""
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.int64, len(words))
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.concatenate(([0], np.cumsum(lengths)))
    found, grams = {}, ids
    for n in range(2, 11):
        grams = _longer(grams, ids, n)
        if n < 5:
            found[f"top_{n}gram"] = _top(grams, ends, n)
        else:
            found[f"duplicate_{n}grams"] = _repeated(grams, ends, n)
    return found


def _longer(shorter: NDArray[np.int64], ids: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Numbers of the n-grams, equal for equal ones, from those of n - 1."""
    if len(ids) < n:
        return np.empty(0, np.int64)
    pairs = shorter[:-1] * (int(ids.max()) + 1) + ids[n - 1 :]
    return np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _top(grams: NDArray[np.int64], ends: NDArray[np.int64], n: int) -> int:
    if not grams.size:
        return 0
    counts = np.bincount(grams)[grams]
    at = int(counts.argmax())
    return int((ends[at + n] - ends[at] + n - 1) * counts[at])


def _repeated(grams: NDArray[np.int64], ends: NDArray[np.int64], n: int) -> int:
    seen: set[int] = set()
    total = position = 0
    row = grams.tolist()
    while position < len(row):
        if row[position] in seen:
            total += int(ends[position + n] - ends[position])
            position += n
        else:
            seen.add(row[position])
            position += 1
    return total


def _duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """How many came before, and their characters."""
    counts = Counter(parts)
    return len(parts) - len(counts), sum(len(part) * (count - 1) for part, count in counts.items())


def count_pieces(text: str) -> dict[str, int]:
    """Repeated lines and paragraphs."""
    names = ("pieces", "paragraphs", "duplicate_lines", "duplicate_line_characters", "duplicate_paragraphs",
             "duplicate_paragraph_characters", "repeated_line_characters")  # fmt: skip
    if not text:
        return dict.fromkeys(names, 0)
    pieces = re.split("\n+", text)
    paragraphs = re.split("\n{2,}", f.strip(text))
    filled = [line for line in text.split("\n") if f.strip(line)]
    values = (
        len(pieces), len(paragraphs), *_duplicates(pieces), *_duplicates(paragraphs), _duplicates(filled)[1],
    )  # fmt: skip
    return dict(zip(names, values, strict=True))
