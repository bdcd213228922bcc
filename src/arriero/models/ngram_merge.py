"""Merging sorted runs of n-grams to one sorted table, in pieces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arriero.models.ngram_columns import Columns, Workspace

Ints = NDArray[np.int64]


class _Run:
    """One sorted run with the part of it that has been read but not merged yet."""

    def __init__(self, columns: Columns, most: int) -> None:
        self._columns, self._most = columns, most
        self._read = 0
        self._size = len(columns["keys"])
        self.keys = self.plain = self.suffix = np.empty(0, np.int64)

    def fill(self) -> None:
        """Read on when nothing is left of the part."""
        if not self.keys.size and self._read < self._size:
            stop = min(self._read + self._most, self._size)
            self.keys, self.plain, self.suffix = (
                self._columns[name].read(self._read, stop) for name in ("keys", "plain", "suffix")
            )
            self._read = stop

    @property
    def bound(self) -> int | None:
        """The largest key up to which this run is known; None when all of it has been read."""
        return int(self.keys[-1]) if self._read < self._size else None

    def take(self, bound: int | None) -> tuple[Ints, Ints, Ints]:
        """Remove and return the records with keys up to the bound."""
        cut = self.keys.size if bound is None else int(np.searchsorted(self.keys, bound, "right"))
        taken = self.keys[:cut], self.plain[:cut], self.suffix[:cut]
        self.keys, self.plain, self.suffix = self.keys[cut:], self.plain[cut:], self.suffix[cut:]
        return taken


def merge_runs(runs: list[Columns], table: Columns, n: int, work: Workspace) -> None:
    """Fill ``table`` with the distinct keys of all runs, their summed ``plain`` counts and their ``suffix``.

    ``table["rows<i>"]`` gets the row in the table of every record of run i. At most about ``work.records`` records are
    in memory at a time: every run is read in equal parts, and what lies below the smallest last key is complete.
    """
    share = max(1, (work.records or 1 << 62) // len(runs))
    readers = [_Run(columns, share) for columns in runs]
    size = 0
    while True:
        work.tell(f"merge {n}-grams", size)
        for reader in readers:
            reader.fill()
        bounds = [reader.bound for reader in readers]
        known = [bound for bound in bounds if bound is not None]
        taken = [reader.take(min(known) if known else None) for reader in readers]
        keys, first, inverse = np.unique(
            np.concatenate([keys for keys, _, _ in taken]), return_index=True, return_inverse=True
        )
        table["keys"].append(keys)
        plain = np.concatenate([plain for _, plain, _ in taken])
        table["plain"].append(np.bincount(inverse, weights=plain, minlength=keys.size))  # exact below 2**53
        table["suffix"].append(np.concatenate([suffix for _, _, suffix in taken])[first])
        at = 0
        for number, (part, _, _) in enumerate(taken):
            table[f"rows{number}"].append(size + inverse[at : at + part.size])
            at += part.size
        size += keys.size
        if not known:
            return
