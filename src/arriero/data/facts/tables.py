"""What the facts know of characters and of English words: ``tables.npz`` and ``english.txt``, made by
``tools/make_text_tables.py`` from Unicode 14 and spaCy's English rules, and pinned: the facts of a text do not change
with the Python that counts them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arriero.data.facts.hashing import hash_of
from arriero.native.text import TextTables

_FOLDER = Path(__file__).parent
UNIT = 1 << 31


class English(NamedTuple):
    """spaCy's exceptions, each with the lengths of its words, and the units that are cut off behind a digit."""

    exceptions: dict[str, tuple[int, ...]]
    units: frozenset[str]


@cache
def english() -> English:
    """Read from ``english.txt``: ``e`` and the words of an exception, ``u`` and a unit, ``#`` and a remark."""
    exceptions, units = {}, set()
    for line in (_FOLDER / "english.txt").read_text("utf-8").splitlines():
        kind, _, text = line.partition(" ")
        if kind == "u":
            units.add(text)
        elif kind == "e":
            words = text.split(" ")
            exceptions["".join(words)] = tuple(map(len, words))
    return English(exceptions, frozenset(units))


@cache
def tables() -> TextTables:
    """The tables as arrays, for the kernel and for Python."""
    with np.load(_FOLDER / "tables.npz", allow_pickle=False) as stored:
        pages, flags, fold, lower = (stored[name] for name in ("pages", "flags", "fold", "lower"))
    return TextTables(pages, flags, fold, lower, *_specials())


def _specials() -> tuple[NDArray[np.uint64], NDArray[np.uint32], NDArray[np.uint64], int]:
    """A hash table with open places: keys (0: empty), values (``csrc/text.h``), a filter, bytes of the longest text."""
    found: dict[str, int] = {}
    for text, lengths in english().exceptions.items():
        found[text] = len(lengths) | lengths[0] << 8 | (lengths[1] << 16 if len(lengths) > 2 else 0)
    for unit in english().units:
        found[unit] = found.get(unit, 0) | UNIT
    size = 4096
    keys, values = np.zeros(size, np.uint64), np.zeros(size, np.uint32)
    for text, value in found.items():
        key = hash_of(text.encode())
        at = key % size
        while keys[at]:
            at = (at + 1) % size
        keys[at], values[at] = key, value
    filter = np.zeros(1024, np.uint64)
    present = keys[keys != 0] >> np.uint64(48)
    np.bitwise_or.at(filter, present >> np.uint64(6), np.uint64(1) << (present & np.uint64(63)))
    return keys, values, filter, max(len(text.encode()) for text in found)
