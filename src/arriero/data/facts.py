"""What the rules judge a text by: counted once, on first use, whatever the thresholds are."""

from __future__ import annotations

from functools import cached_property

from arriero.data import repetition


class Facts:
    """Figures of one text. Words are what lies between white space."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def characters(self) -> int:
        return len(self.text)

    @cached_property
    def _words(self) -> list[str]:
        return self.text.split()

    @property
    def words(self) -> int:
        return len(self._words)

    @cached_property
    def mean_word_length(self) -> float:
        """Characters a word, punctuation included."""
        return sum(map(len, self._words)) / len(self._words) if self._words else 0.0

    @cached_property
    def alphabetic_share(self) -> float:
        """Share of the words that hold a letter."""
        words = self._words
        return sum(w.isalpha() or any(map(str.isalpha, w)) for w in words) / len(words) if words else 0.0

    @cached_property
    def symbol_ratio(self) -> float:
        """``#`` or ellipses (… and ...) a word, whichever are more."""
        ellipses = self.text.count("...") + self.text.count("…")
        return max(self.text.count("#"), ellipses) / len(self._words) if self._words else 0.0

    @cached_property
    def _lines(self) -> list[str]:
        return repetition.lines_of(self.text)

    @cached_property
    def _paragraphs(self) -> list[str]:
        return repetition.paragraphs_of(self.text)

    @cached_property
    def _ngrams(self) -> repetition.NGrams:
        return repetition.NGrams(self._words, len(self.text))

    @cached_property
    def duplicate_lines(self) -> float:
        return repetition.duplicate_share(self._lines)

    @cached_property
    def duplicate_paragraphs(self) -> float:
        return repetition.duplicate_share(self._paragraphs)

    @cached_property
    def duplicate_line_characters(self) -> float:
        return repetition.duplicate_character_share(self._lines, len(self.text))

    @cached_property
    def duplicate_paragraph_characters(self) -> float:
        return repetition.duplicate_character_share(self._paragraphs, len(self.text))

    def top_ngram(self, n: int) -> float:
        return self._ngrams.top_share(n)

    def duplicate_ngrams(self, n: int) -> float:
        return self._ngrams.duplicate_share(n)
