"""N-grams of all items, by their hashes, with the words themselves to verify a hit by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.decontaminate.items import Item
from arriero.data.decontaminate.normalise import joined, normalised_words
from arriero.data.dedup.rows import load_array, pack, save_array
from arriero.data.dedup.words import ngrams

GRAM = np.dtype([("key", "<u8"), ("n", "<i4"), ("item", "<i4"), ("start", "<i8"), ("end", "<i8")])
"""An n-gram of an item; ``start`` and ``end`` are bytes of the words of all items."""
_GRAMS, _WORDS = "grams.npy", "words.txt"


def sizes_of(words: int, settings_ngrams: Sequence[int], min_words: int) -> list[int]:
    """Sizes of the n-grams by which an item of so many words is looked for; none: it is too short."""
    if words < min_words:
        return []
    return [n for n in settings_ngrams if n <= words] or [words]


def write_index(folder: Path, items: Iterable[Item], ngram_sizes: Sequence[int], min_words: int) -> list[int]:
    """Write the index; gives the number of words of each item."""
    folder.mkdir(parents=True, exist_ok=True)
    tables, offset, lengths = [np.empty(0, GRAM)], 0, []
    temporary = folder / f".{_WORDS}.{os.getpid()}.partial"
    with temporary.open("wb") as file:
        for number, item in enumerate(items):
            form, words = normalised_words(item.text)
            lengths.append(len(words))
            data, starts, ends = joined(form, words)
            for n in sizes_of(len(words), ngram_sizes, min_words):
                keys = ngrams(words.hash, n)
                tables.append(
                    pack(
                        GRAM,
                        key=keys,
                        n=n,
                        item=number,
                        start=starts[: len(keys)] + offset,
                        end=ends[n - 1 :] + offset,
                    )
                )
            file.write(data + b"\n")
            offset += len(data) + 1
    temporary.replace(folder / _WORDS)
    table = np.concatenate(tables)
    save_array(folder / _GRAMS, table[np.lexsort((table["start"], table["item"], table["key"], table["n"]))])
    return lengths


@dataclass(frozen=True)
class Hits:
    """N-grams of items in a text. ``key``: number of the distinct n-gram; ``place``: its first word."""

    key: NDArray[np.int64]
    place: NDArray[np.int64]


class Index:
    """Looks texts up; memory-mapped, so that workers share it."""

    def __init__(self, folder: Path) -> None:
        self.grams = load_array(folder / _GRAMS, mapped=True)
        keys, sizes = np.asarray(self.grams["key"]), np.asarray(self.grams["n"])
        new = np.ones(len(keys), np.bool_)
        new[1:] = (keys[1:] != keys[:-1]) | (sizes[1:] != sizes[:-1])
        self.first = np.flatnonzero(new)
        """Row in ``grams`` of each distinct n-gram."""
        self.keys, self.sizes = keys[self.first], sizes[self.first]
        bounds = [(int(n), *np.searchsorted(self.sizes, [n, n + 1]).tolist()) for n in np.unique(self.sizes)]
        self._ranges: list[tuple[int, int, int]] = bounds
        self._words = (folder / _WORDS).open("rb")

    def close(self) -> None:
        """Close the file of words."""
        self._words.close()

    def find(self, form: str, words: Any) -> Hits:
        """The n-grams of items in a normalised text; every hit of a hash is verified on the words."""
        keys, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for n, low, high in self._ranges:
            found = ngrams(words.hash, n)
            position = np.minimum(np.searchsorted(self.keys[low:high], found), high - low - 1)
            place = np.flatnonzero(self.keys[low:high][position] == found)
            keys.append(position[place] + low)
            places.append(place)
        key, place = np.concatenate(keys), np.concatenate(places)
        if not len(key):
            return Hits(key, place)
        data, starts, ends = joined(form, words)
        true = np.array(
            [
                data[starts[p] : ends[p + int(self.sizes[k]) - 1]] == self.text(k)
                for k, p in zip(key.tolist(), place.tolist(), strict=True)
            ],
            np.bool_,
        )
        return Hits(key[true], place[true])

    def text(self, key: int) -> bytes:
        """The words of a distinct n-gram."""
        gram = self.grams[self.first[key]]
        return os.pread(self._words.fileno(), int(gram["end"] - gram["start"]), int(gram["start"]))

    def items_of(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(item, n-gram) of every row of the distinct n-grams ``keys`` (each once)."""
        ends = np.append(self.first[1:], len(self.grams))
        counts = ends[keys] - self.first[keys]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(self.first[keys], counts) + steps
        return np.asarray(self.grams["item"][rows], np.int64), np.repeat(keys, counts)
