"""How facts are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from arriero.errors import ArrieroError

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's (Rae et al. 2021, A.1.1)."""
MOST_HASHES = 4096
MOST_SHINGLE_WORDS = 64
MOST_STOP_WORDS = 4096


@dataclass(frozen=True)
class FactsSettings:
    """What a word, a shingle and a signature are.

    ``words``: ``peel``, spaCy's English rules restated (punctuation, contractions and hyphens are words of their own,
    as the thresholds of datatrove's presets expect), or ``space``, what lies between white space (the papers' reading).
    Thresholds for one do not fit the other. In both, each character of a script without spaces (Han, Kana, Thai, Lao,
    Khmer, Burmese, ...) is a word, with its combining marks.

    Raises:
        ArrieroError: a figure is out of bounds.
    """

    words: Literal["peel", "space"] = "peel"
    shingle_words: int = 5
    bands: int = 14
    rows: int = 8
    stop_words: tuple[str, ...] = STOP_WORDS

    def __post_init__(self) -> None:
        if self.words not in ("peel", "space"):
            raise ArrieroError(f"words should be peel or space, not {self.words!r}")
        if not 1 <= self.shingle_words <= MOST_SHINGLE_WORDS:
            raise ArrieroError(
                f"shingle_words should be from 1 to {MOST_SHINGLE_WORDS}, not {self.shingle_words}"
            )
        if self.bands < 1 or self.rows < 1 or self.bands * self.rows > MOST_HASHES:
            raise ArrieroError(
                f"bands x rows should be from 1 to {MOST_HASHES}, not {self.bands} x {self.rows}"
            )
        if len(self.stop_words) > MOST_STOP_WORDS:
            raise ArrieroError(f"there are {len(self.stop_words)} stop words; {MOST_STOP_WORDS} at most")
