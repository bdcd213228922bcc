"""Hashed word features of a text, in numpy: every word and every pair of neighbours falls into one of 2^bits buckets.

As in fastText (Joulin et al. 2016) a text is the average of its features. A word is a run of ASCII letters and digits and
of other characters beyond ASCII, in lower case; Chinese, Japanese and Korean characters are words of their own.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Buckets = NDArray[np.uint32]

_BASE = 0x9E3779B97F4A7C15 | 1
_PAIR = np.uint64(0xD6E8FEB86659FD93)
_CJK = (0xE3, 0xED)
"""First bytes of the characters U+3000 to U+DFFF in UTF-8, three bytes each."""


def _word_bytes() -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    for first, last in ((0x30, 0x39), (0x61, 0x7A), (0x80, 0xFF)):
        table[first : last + 1] = True
    return table


_IS_WORD = _word_bytes()


@lru_cache(maxsize=1)
def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Powers of the base and of its inverse, modulo 2^64."""
    inverse = pow(_BASE, -1, 1 << 64)
    found = []
    for base in (_BASE, inverse):
        row = np.full(size, base, np.uint64)
        row[0] = 1
        found.append(np.multiply.accumulate(row))
    return found[0], found[1]


def _room(size: int) -> int:
    """Sizes in few steps, so that the powers are seldom computed anew."""
    return max(1 << 14, 1 << (size - 1).bit_length())


def words_of(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First bytes of the words of lower-case UTF-8, and the bytes behind them."""
    raw = np.frombuffer(data, np.uint8)
    inside = _IS_WORD[raw]
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    if raw.size and int(raw.max()) >= _CJK[0]:
        lead = (raw >= _CJK[0]) & (raw <= _CJK[1])
        begins |= lead
        begins[3:] |= lead[:-3] & inside[3:]
    breaks = begins.copy()
    breaks[1:] |= inside[:-1] & ~inside[1:]
    places = np.flatnonzero(breaks)
    ends = np.append(places[1:], raw.size)
    starting = begins[places]
    return places[starting], ends[starting]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of MurmurHash3: every bit of the result depends on every bit of the hash."""
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return hashes ^ (hashes >> np.uint64(33))


def prepare(text: str, characters: int) -> bytes:
    """The part of a text that is looked at (0 characters: all of it), in lower case, as UTF-8."""
    return (text[:characters] if characters else text).lower().encode("utf-8", "replace")


def buckets_of(data: bytes, bits: int) -> tuple[Buckets, Buckets]:
    """Bucket of every word [n], and of every pair of neighbours [n - 1], in the order of the text."""
    starts, ends = words_of(data)
    if not starts.size:
        return np.empty(0, np.uint32), np.empty(0, np.uint32)
    power, inverse = _powers(_room(len(data)))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(
        (np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1)) * power[: len(data)], out=sums[1:]
    )
    words = _mixed((sums[ends] - sums[starts]) * inverse[starts])
    pairs = _mixed(words[:-1] * _PAIR + words[1:])
    shift = np.uint64(64 - bits)
    return (words >> shift).astype(np.uint32), (pairs >> shift).astype(np.uint32)


def features_of(data: bytes, bits: int) -> tuple[Buckets, NDArray[np.float32]]:
    """Different buckets of a text in rising order, and the share of each among all its features."""
    words, pairs = buckets_of(data, bits)
    every = np.sort(np.concatenate([words, pairs]))
    if not every.size:
        return every, np.empty(0, np.float32)
    first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
    counts = np.diff(np.append(first, every.size))
    return every[first], (counts / every.size).astype(np.float32)
