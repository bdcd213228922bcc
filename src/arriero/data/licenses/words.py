"""Licence texts as sets of hashes of word sequences."""

from __future__ import annotations

import re
import zlib

SHINGLE_WORDS = 4
_WORD = re.compile(r"[a-z0-9]+")
_COPYRIGHT = re.compile(
    r"^[^\w\n]{0,12}(?:portions\s+)?(?:(?:copyright\W{0,4}(?:\(c\)|©|[\d:<\[{]))|(?:\(c\)|©)\W{0,4}(?:copyright\W*)?\d)"
    r"[^\n]{0,200}$|all rights reserved\.?",
    re.IGNORECASE | re.MULTILINE,
)
_DECORATION = re.compile(
    r"^[ \t]*(?:/\*+|\*+/?|//+!?|#+|--+|;+|%+|rem\b|dnl\b|<!--|\"\"\"|''')", re.IGNORECASE | re.MULTILINE
)
_SPELLING = {"licence": "license", "licences": "licenses", "licenced": "licensed", "http": "https"}


def words(text: str) -> list[str]:
    """Lower-case words without comment marks, punctuation and copyright lines; licence spelled license."""
    text = _COPYRIGHT.sub(" ", _DECORATION.sub(" ", text))
    return [_SPELLING.get(word, word) for word in _WORD.findall(text.lower())]


def shingles(found: list[str]) -> set[int]:
    """32-bit hashes of all sequences of :data:`SHINGLE_WORDS` words."""
    last = len(found) - SHINGLE_WORDS + 1
    return {zlib.crc32(" ".join(found[at : at + SHINGLE_WORDS]).encode()) for at in range(last)}
