"""Long arrays that need not fit in memory: columns in files (or in memory), and the folder they lie in.

Everything that counts n-grams works on columns piece by piece, so that the same code serves a text that fits in
memory (one piece) and one that does not (many pieces, on disk).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES_PER_RECORD = 112
"""Working memory that one record of a piece takes at the most: keys, their sorting and merging; measured."""
LEAST_RECORDS = 64
"""A piece is never shorter, whatever the limit says."""


class Column:
    """A one-dimensional array that grows at its end and is read in pieces."""

    def __init__(self, dtype: type[np.generic], path: Path | None = None) -> None:
        """Without a path the array is kept in memory. What the file already holds is part of the array."""
        self.dtype, self._path = np.dtype(dtype), path
        self._parts: list[NDArray[Any]] = []

    @classmethod
    def of(cls, values: NDArray[Any]) -> Column:
        """A column in memory that holds ``values``."""
        column = cls(values.dtype.type)
        column.append(values)
        return column

    def __len__(self) -> int:
        if self._path is None:
            return sum(part.size for part in self._parts)
        return self._path.stat().st_size // self.dtype.itemsize if self._path.exists() else 0

    def append(self, values: NDArray[Any]) -> None:
        """Put values at the end; they are cast to the column's dtype."""
        values = np.ascontiguousarray(values, self.dtype)
        if self._path is None:
            self._parts.append(values)
        else:
            with self._path.open("ab") as file:
                values.tofile(file)

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The values from ``start`` up to ``stop`` (the end)."""
        stop = len(self) if stop is None else stop
        if self._path is None:
            if len(self._parts) != 1:
                self._parts = [np.concatenate([np.empty(0, self.dtype), *self._parts])]
            return self._parts[0][start:stop]
        if stop <= start or not self._path.exists():
            return np.empty(0, self.dtype)
        return np.fromfile(self._path, self.dtype, stop - start, offset=start * self.dtype.itemsize)

    def clear(self) -> None:
        """Forget all values."""
        self._parts = []
        if self._path is not None:
            self._path.unlink(missing_ok=True)


Columns = dict[str, Column]


class Workspace:
    """Where columns are made, step by step. In a folder, steps that were finished are not done again.

    Args:
        folder: scratch folder; None keeps everything in memory, in one piece.
        max_memory: bytes that the work may take beyond the process and what it is given.
        progress: is told the name of every step and how many of its records are done; it may raise to stop the work.
    """

    def __init__(
        self,
        folder: Path | None = None,
        max_memory: int | None = None,
        progress: Callable[[str, int], None] | None = None,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self.records: int | None = None
        """Most records of a piece; None: all at once."""
        if max_memory is not None:
            self.records = max(LEAST_RECORDS, max_memory // BYTES_PER_RECORD)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def step(
        self, name: str, dtypes: Mapping[str, type[np.generic]], fill: Callable[[Columns], None]
    ) -> Columns:
        """The columns that ``fill`` puts values into; those of a step that was finished before, without filling."""
        columns = {key: Column(dtype, self._file(name, key)) for key, dtype in dtypes.items()}
        mark = self._file(name, "done")
        if mark is None or not mark.exists():
            for column in columns.values():
                column.clear()
            fill(columns)
            if mark is not None:
                mark.write_text(json.dumps({key: len(column) for key, column in columns.items()}))
        return columns

    def _file(self, step: str, column: str) -> Path | None:
        return None if self._folder is None else self._folder / f"{step}.{column}"

    def pieces(self, size: int, name: str) -> Iterator[tuple[int, int]]:
        """(start, stop) of the pieces of ``size`` records, at least one; tells the progress of the step ``name``."""
        length = self.records or max(size, 1)
        for start in range(0, max(size, 1), length):
            self.tell(name, start)
            yield start, min(start + length, size)

    def windows(self, size: int) -> list[tuple[int, int]]:
        """(start, stop) of windows over ``size`` numbers of 8 bytes that are looked up in no order, at least one."""
        length = 8 * self.records if self.records else max(size, 1)
        return [(start, min(start + length, size)) for start in range(0, max(size, 1), length)]

    def tell(self, name: str, done: int) -> None:
        """Report progress."""
        if self._progress is not None:
            self._progress(name, done)
