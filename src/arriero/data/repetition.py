"""How much a text repeats itself: Gopher's measures (Rae et al. 2021, table A1), each a share from 0 to 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LINES = re.compile("\n+")
_PARAGRAPHS = re.compile("\n{2,}")


def lines_of(text: str) -> list[str]:
    """Lines that are not empty."""
    return [line for line in _LINES.split(text) if line]


def paragraphs_of(text: str) -> list[str]:
    """Stretches between empty lines."""
    return [part for part in _PARAGRAPHS.split(text) if part]


def duplicate_share(parts: Sequence[str]) -> float:
    """Share of the parts that stood in the text before."""
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def duplicate_character_share(parts: Sequence[str], n_characters: int) -> float:
    """Share of a text's characters that lie in parts which stood in the text before."""
    if not n_characters:
        return 0.0
    return (sum(map(len, parts)) - sum(map(len, set(parts)))) / n_characters


class NGrams:
    """The word n-grams of one text, each n-gram numbered; exact, without hashing."""

    def __init__(self, words: Sequence[str], n_characters: int) -> None:
        """``words``: the text cut at white space; ``n_characters``: length of the whole text."""
        numbers: dict[str, int] = {}
        self._words = np.array([numbers.setdefault(w, len(numbers)) for w in words], np.int64)
        self._lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._n_characters = n_characters
        self._numbers: list[NDArray[np.int64]] = [self._words]

    def top_share(self, n: int) -> float:
        """Share of the characters in the occurrences of the most frequent n-gram (its inner spaces counted).

        0 when no n-gram occurs twice. Of several equally frequent ones the first in the text counts.
        """
        numbers = self._number(n)
        if not numbers.size:
            return 0.0
        counts = np.bincount(numbers)
        most = int(counts.max())
        if most < 2:
            return 0.0
        start = int((counts[numbers] == most).argmax())
        length = int(self._lengths[start : start + n].sum()) + n - 1
        return length * most / self._n_characters

    def duplicate_share(self, n: int) -> float:
        """Share of the characters (spaces left out) in n-grams which stood in the text before; no character counts
        twice: after a repeated n-gram the search goes on behind it."""
        numbers = self._number(n)
        if not numbers.size or int(numbers.max()) + 1 == numbers.size:  # all different
            return 0.0
        ends = np.concatenate(([0], np.cumsum(self._lengths)))
        seen: set[int] = set()
        repeated = position = 0
        row = numbers.tolist()
        while position < len(row):
            if row[position] in seen:
                repeated += int(ends[position + n] - ends[position])
                position += n
            else:
                seen.add(row[position])
                position += 1
        return repeated / self._n_characters

    def _number(self, n: int) -> NDArray[np.int64]:
        """int64[len(words) - n + 1]: equal numbers for equal n-grams, from 0 without gaps, built from
        those of n - 1."""
        while len(self._numbers) < n:
            size = len(self._numbers)
            shorter = self._numbers[-1]
            if len(self._words) <= size:
                self._numbers.append(np.empty(0, np.int64))
                continue
            pairs = shorter[:-1] * (int(self._words.max()) + 1) + self._words[size:]
            self._numbers.append(np.unique(pairs, return_inverse=True)[1].astype(np.int64))
        return self._numbers[n - 1]
