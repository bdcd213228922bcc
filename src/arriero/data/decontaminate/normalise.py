"""One form for benchmark items and documents: lower case, no accents, no punctuation, words with their places.

Every character is mapped by itself, so that what is found in the form can be cut out of the original.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.words import Words, characters_at, words_of


class _Form(dict[int, str]):
    """Code point -> its form; made on first use."""

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code)).casefold()
        form = "".join(
            character if character.isalnum() else " "
            for character in unicodedata.normalize("NFKD", parts)
            if not unicodedata.combining(character)
        )
        self[code] = form
        return form


_FORM = _Form()


def form_of(text: str) -> str:
    """The text in compatibility form, case-folded, without combining marks, white space for all but letters and
    digits."""
    return text.translate(_FORM)


def normalised_words(text: str) -> tuple[str, Words]:
    """(form of a text, its words; places are bytes of the form)."""
    form = form_of(text)
    return form, words_of(form)


def joined(form: str, words: Words) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
    """(words with one space between them, first byte of each, the byte after each)."""
    data = form.encode("utf-8", "surrogatepass")
    pieces = [data[start:end] for start, end in zip(words.start.tolist(), words.end.tolist(), strict=True)]
    ends = np.array(list(accumulate(len(piece) + 1 for piece in pieces)), np.int64) - 1
    starts = ends - np.array([len(piece) for piece in pieces], np.int64)
    return b" ".join(pieces), starts, ends


def original_spans(
    text: str, form: str, words: Words, spans: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Characters of the original text of spans of words (first, one after the last)."""
    if not spans:
        return []
    if text.isascii():
        ends = np.arange(1, len(text) + 1)
    else:  # characters of the form up to and with each original one
        ends = np.cumsum(np.fromiter((len(_FORM[ord(character)]) for character in text), np.int64, len(text)))
    first, after = np.array(spans, np.int64).T
    low = np.searchsorted(ends, characters_at(form, words.start[first]), "right")
    high = np.searchsorted(ends, characters_at(form, words.end[after - 1]), "left") + 1
    return list(zip(low.tolist(), high.tolist(), strict=True))
