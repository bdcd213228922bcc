"""Words of a text as hashes with their places, fast enough to read a whole corpus by them; n-grams of them.

A word is what lies between white space; characters of scripts that are written without spaces are words of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from arriero.data.dedup.minhash import scramble

_BLOCK = 1 << 20
_OFFSETS = 1 << 16
_BREAK = re.compile(rb"[\x00-\x20]")


@dataclass(frozen=True)
class Words:
    """int64 ``start`` and ``end``: bytes of the UTF-8 text; uint64 ``hash``."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    hash: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.hash)

    def take(self, keep: NDArray[np.bool_]) -> Words:
        """Some of the words."""
        return Words(self.start[keep], self.end[keep], self.hash[keep])


def words_of(text: str) -> Words:
    """The words of a text, in order. Memory: 60 bytes for a byte of a block of 1 MiB, 24 bytes a word."""
    data = text.encode("utf-8", "surrogatepass")
    blocks, start = [], 0
    while start < len(data):
        stop = start + _BLOCK
        found = _BREAK.search(data, stop) if stop < len(data) else None
        stop = found.end() if found else len(data)
        words = _block_words(np.frombuffer(data, np.uint8, stop - start, start))
        blocks.append(Words(words.start + start, words.end + start, words.hash))
        start = stop
    if not blocks:
        return Words(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))
    return Words(
        np.concatenate([b.start for b in blocks]),
        np.concatenate([b.end for b in blocks]),
        np.concatenate([b.hash for b in blocks]),
    )


def _block_words(data: NDArray[np.uint8]) -> Words:
    """Words of a block that ends with white space or the text."""
    begins, blank = _plain_marks(data) if (data < 0x80).all() else _marks(data)
    bounds = np.append(np.flatnonzero(begins | blank), len(data))
    is_start = begins[bounds[:-1]]
    starts, ends = bounds[:-1][is_start], bounds[1:][is_start]
    if not len(starts):
        return Words(starts, ends, np.empty(0, np.uint64))
    values, powers = _tables()
    sizes = np.diff(starts, append=len(data))
    offset = np.arange(starts[0], len(data)) - np.repeat(starts, sizes)
    mixed = values[data[starts[0] :]] * powers[offset & (_OFFSETS - 1)]
    mixed[blank[starts[0] :]] = 0
    sums = np.add.reduceat(mixed, starts - starts[0])
    return Words(starts, ends, scramble(sums + (ends - starts).astype(np.uint64)))


def _plain_marks(data: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(where words begin, where white space is) in ASCII."""
    blank = data <= 0x20
    begins = ~blank
    begins[1:] &= blank[:-1]
    return begins, blank


def _marks(data: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(where words begin, where white space is) in UTF-8."""
    following = np.concatenate([data[1:], np.zeros(2, np.uint8)])
    second, third = following[: len(data)], following[1:]
    wide = (data == 0xE3) & (second == 0x80) & (third == 0x80)  # U+3000
    blank = (data <= 0x20) | ((data == 0xC2) & (second == 0xA0)) | wide
    blank[1:] |= (data[:-1] == 0xC2) & (data[1:] == 0xA0)
    blank[1:] |= wide[:-1]
    blank[2:] |= wide[:-2]
    lead = (data & 0xC0) != 0x80
    single = _is_single(data, second)
    alone = single[np.maximum.accumulate(np.where(lead, np.arange(len(data)), 0))]  # of a byte's character
    begins = np.ones(len(data), np.bool_)
    begins[1:] = blank[:-1] | alone[:-1]
    return lead & ~blank & (begins | alone), blank


def _is_single(data: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """First bytes of characters that are words: Han and kana, Thai and Lao, Burmese, Khmer, and all beyond U+FFFF."""
    return (
        ((data >= 0xE3) & (data <= 0xE9))
        | (data == 0xF0)
        | ((data == 0xE0) & (second >= 0xB8) & (second <= 0xBB))
        | ((data == 0xE1) & ((second <= 0x82) | (second == 0x9E) | (second == 0x9F)))
    )


@cache
def _tables() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    values = scramble(np.arange(1, 257, dtype=np.uint64))
    powers = np.cumprod(np.full(_OFFSETS, 0x9E3779B97F4A7C15, np.uint64), dtype=np.uint64)
    return values, powers


def ngrams(hashes: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """uint64[words - n + 1]: the hash of the n words from each place; empty for fewer words."""
    length = len(hashes) - n + 1
    if length <= 0:
        return np.empty(0, np.uint64)
    total = np.zeros(length, np.uint64)
    for offset in range(n):
        total += hashes[offset : offset + length] * _factor(offset)
    return scramble(total + np.uint64(n))


@cache
def _factor(offset: int) -> np.uint64:
    return np.uint64(int(scramble(np.array([offset + (1 << 50)], np.uint64))[0]) | 1)


def anchors(hashes: NDArray[np.uint64], words: int) -> tuple[int, NDArray[np.int64], NDArray[np.uint64]]:
    """(k, places, hashes): k-grams of which every span of ``words`` words holds one, chosen by the span alone.

    Winnowing (Schleimer, Wilkerson, Aiken 2003): the least hashes of every window of w k-grams, k + w - 1 = ``words``.
    So two equal spans of that length share an anchor, and about one k-gram in w / 2 is one.
    """
    k = (words + 1) // 2
    width = words - k + 1
    grams = ngrams(hashes, k)
    if len(grams) < width:
        return k, np.empty(0, np.int64), np.empty(0, np.uint64)
    least = _sliding(grams, width, np.minimum)
    top = np.zeros(width - 1, np.uint64)
    greatest = _sliding(np.concatenate([top, least, top]), width, np.maximum)
    places = np.flatnonzero(greatest == grams)
    return k, places, grams[places]


def _sliding(values: NDArray[np.uint64], width: int, pick: np.ufunc) -> NDArray[np.uint64]:
    """The least (or greatest) of every ``width`` neighbours, by doubling."""
    reach, found = 1, values
    while 2 * reach <= width:
        found = pick(found[:-reach], found[reach:])
        reach *= 2
    rest = width - reach
    result: NDArray[np.uint64] = pick(found[: len(found) - rest], found[rest:]) if rest else found
    return result


def characters_at(text: str, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Characters before each byte of the text's UTF-8."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    before = np.concatenate([[0], np.cumsum((data & 0xC0) != 0x80)])
    found: NDArray[np.int64] = before[places]
    return found
