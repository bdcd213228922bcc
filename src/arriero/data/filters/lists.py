"""Lists as filters: addresses whose pages are dropped, and words that may not be in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import (
    Doc,
    Verdict,
    at_stored_precision,
    is_near,
    numbers_of,
    strings_of,
)
from arriero.data.filters.hash_list import HashList, entries_of, keys_of_url, url_key
from arriero.data.filters.settings import UrlList, WordList
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    import pyarrow as pa

_UNSPACED = frozenset(("ja", "th", "zh"))
"""Languages in which C4 looks for words without asking what stands beside them."""
_WORD = re.compile(r"\w+")
_PIECE = 1 << 20


class UrlListFilter:
    """Drops pages by their address; the reason names the list. Documents without an address pass."""

    stage = "list"
    needs: Literal["record", "text"] = "record"

    def __init__(self, lists: Sequence[UrlList]) -> None:
        """Raises:
        ArrieroError: a list cannot be read.
        """
        self._lists = [HashList.read(each.path, url_key) for each in lists]
        self.reasons: Sequence[str] = [f"url.{each.name}" for each in lists]

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        return {}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        number = self._hit(columns.get("url"))
        return None if number < 0 else Verdict(self.reasons[number], 1.0, 0.0)

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        return np.array([self._hit(url) for url in strings_of(table, "url")], np.int64)

    def _hit(self, url: str | None) -> int:
        if url:
            keys = keys_of_url(url)
            for number, each in enumerate(self._lists):
                if each.first_of(keys) >= 0:
                    return number
        return -1


class Phrases:
    """Words and phrases of a list, counted in texts in any case; an entry stands between characters that are not of a
    word, as in C4's bad-word filter, or anywhere in languages without spaces."""

    def __init__(self, entries: Sequence[str], unspaced: bool = False) -> None:
        lowered = sorted({entry.lower() for entry in entries})
        self._anywhere = [entry for entry in lowered if unspaced or not _WORD.search(entry)]
        self._words = {entry for entry in lowered if not unspaced and _WORD.fullmatch(entry)}
        self._phrases: dict[str, list[tuple[frozenset[str], str]]] = {}
        for entry in lowered:
            parts = _WORD.findall(entry)
            if unspaced or not parts or entry in self._words:
                continue
            self._phrases.setdefault(parts[0], []).append((frozenset(parts), entry))

    def hits(self, text: str) -> tuple[int, int]:
        """Occurrences of entries, and words of the text."""
        counted = [self._hits(piece.lower()) for piece in _pieces(text)]
        return sum(hits for hits, _ in counted), sum(words for _, words in counted)

    def _hits(self, text: str) -> tuple[int, int]:
        words = _WORD.findall(text)
        different = set(words)
        single = different & self._words
        count = sum(word in single for word in words) if single else 0
        for first in different & self._phrases.keys():
            for parts, entry in self._phrases[first]:
                if parts <= different:
                    count += _occurrences(entry, text)
        count += sum(text.count(entry) for entry in self._anywhere)
        return count, len(words)


def _pieces(text: str) -> Iterator[str]:
    """A large text in pieces that end at line ends, at spaces where there are none, so that memory stays bounded."""
    start = 0
    while len(text) - start > _PIECE:
        end = start + _PIECE
        cut = max(text.rfind("\n", start, end), 0) or max(text.rfind(" ", start, end), 0)
        end = cut + 1 if cut > start else end
        yield text[start:end]
        start = end
    yield text[start:]


def _occurrences(entry: str, text: str) -> int:
    """How often an entry stands between characters that are not of a word."""
    count, start = 0, text.find(entry)
    while start >= 0:
        end = start + len(entry)
        whole = not _WORD.match(text[end : end + 1]) and not (start and _WORD.match(text[start - 1]))
        count += whole
        start = text.find(entry, end if whole else start + 1)
    return count


def read_phrases(path: Path, language: str | None = None) -> Phrases:
    """The phrases of a text file.

    Raises:
        ArrieroError: it cannot be read or has no entry.
    """
    entries = list(entries_of(path))
    if not entries:
        raise ArrieroError(f"{path} has no word")
    return Phrases(entries, unspaced=language in _UNSPACED)


def per_1000_words(hits: int, words: int) -> float:
    """Hits for a thousand words."""
    return at_stored_precision(1000 * hits / max(words, 1))


class WordListFilter:
    """One list of words: measures ``m_words_<name>``, hits for 1000 words."""

    stage = "list"
    needs: Literal["record", "text"] = "text"

    def __init__(self, settings: WordList) -> None:
        """Raises:
        ArrieroError: the list cannot be read or is empty.
        """
        self._settings = settings
        self._phrases = read_phrases(settings.path, settings.language)
        self._column = f"m_words_{settings.name}"
        self.reasons: Sequence[str] = [f"words.{settings.name}"]

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        """Nothing for a text of another language than the list's."""
        if self._settings.language not in (None, doc.columns.get("lang")):
            return {}
        return {self._column: per_1000_words(*self._phrases.hits(doc.text))}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        value, most = columns.get(self._column), self._settings.max_per_1000_words
        if value is not None and value > most:
            return Verdict(self.reasons[0], value, most, is_near(value, most))
        return None

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        return np.where(numbers_of(table, self._column) > self._settings.max_per_1000_words, 0, -1)
