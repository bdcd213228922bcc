"""Shingle hashes of the documents that are compared, on disk: written part by part, read document by document."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import PARTIAL
from arriero.data.dedup.rows import Slot, load_array, save_array, starts_of, texts_of
from arriero.data.dedup.steps import EXCHANGE
from arriero.data.facts import FactsSettings, shingle_hashes

SHINGLES = f"{EXCHANGE}/shingles"
_OPEN_PARTS = 128
_HELD = 4 << 20
"""Shingles (8 bytes each) that a store keeps in memory."""


def write_shingles(folder: Path, slot: Slot, rows: NDArray[np.int64], settings: FactsSettings) -> None:
    """Compute the shingles of some rows of a part (numbers in the part, ascending), reading its texts in order."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = np.zeros(slot.rows, np.bool_)
    wanted[rows] = True
    counts = np.zeros(len(rows), np.int64)
    final = folder / f"{slot.name}.u64"
    temporary = final.with_name(f".{final.name}.{os.getpid()}{PARTIAL}")
    with temporary.open("wb") as file:
        for number, (_, text) in enumerate(texts_of(slot, wanted)):
            found = shingle_hashes(text, settings)
            counts[number] = len(found)
            file.write(found.astype("<u8").tobytes())
    temporary.replace(final)
    index = np.stack([rows + slot.start, np.cumsum(counts) - counts, counts], 1).astype(np.int64)
    save_array(folder / f"{slot.name}.npy", index)


class ShingleStore:
    """Reads single documents' shingles; holds some in memory, whatever the size of the corpus."""

    def __init__(self, folder: Path, slots: Sequence[Slot]) -> None:
        self._folder, self._slots = folder, slots
        self._starts = starts_of(slots)
        self._parts: OrderedDict[int, tuple[NDArray[np.int64], BinaryIO]] = OrderedDict()
        self._held: OrderedDict[int, NDArray[np.uint64]] = OrderedDict()
        self._held_size = 0

    def __enter__(self) -> ShingleStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for _, file in self._parts.values():
            file.close()
        self._parts.clear()

    def count(self, row: int) -> int:
        """Shingles of a global row."""
        index, position, _ = self._place(row)
        return int(index[position, 2])

    def get(self, row: int) -> NDArray[np.uint64]:
        """uint64[.], sorted, each once: the shingles of a global row."""
        if row in self._held:
            self._held.move_to_end(row)
            return self._held[row]
        index, position, file = self._place(row)
        offset, count = int(index[position, 1]), int(index[position, 2])
        found = np.frombuffer(os.pread(file.fileno(), 8 * count, 8 * offset), "<u8")
        self._held[row] = found
        self._held_size += count
        while self._held_size > _HELD and len(self._held) > 1:
            self._held_size -= len(self._held.popitem(last=False)[1])
        return found

    def _place(self, row: int) -> tuple[NDArray[np.int64], int, BinaryIO]:
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        if part not in self._parts:
            name = self._slots[part].name
            self._parts[part] = (
                load_array(self._folder / f"{name}.npy"),
                (self._folder / f"{name}.u64").open("rb"),
            )
            if len(self._parts) > _OPEN_PARTS:
                self._parts.popitem(last=False)[1][1].close()
        self._parts.move_to_end(part)
        index, file = self._parts[part]
        position = int(np.searchsorted(index[:, 0], row))
        if position == len(index) or index[position, 0] != row:
            raise KeyError(f"row {row} is not among the shingles of {self._slots[part].name}")
        return index, position, file


def shared(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    """How many values two sorted sets have in common."""
    if len(a) > len(b):
        a, b = b, a
    if not len(a):
        return 0
    found = np.searchsorted(b, a)
    found[found == len(b)] = 0
    return int((b[found] == a).sum())


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Size of the intersection over size of the union; 0 for two empty sets."""
    common = shared(a, b)
    union = len(a) + len(b) - common
    return common / union if union else 0.0
