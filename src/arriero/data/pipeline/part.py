"""A part: what a worker made of its splits of raw files, in a folder that is there whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arriero.data.pipeline.texts import iter_framed, read_at
from arriero.errors import DamagedArtifactError

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS, LEDGER, SIGNATURES, FRAMES, PART = (
    "texts.jsonl.zst", "ledger.parquet", "signatures.npy", "frames.npy", "part.json",
)  # fmt: skip


class Part:
    """Reads a part's folder. Rows are the records of its splits, in order."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            DamagedArtifactError: the folder is no part.
        """
        self.folder = Path(folder)
        self.name = self.folder.name
        try:
            self.about: dict[str, Any] = json.loads((self.folder / PART).read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedArtifactError(f"{folder} is no part of a corpus: {error}") from None

    def __len__(self) -> int:
        """Records read, refused ones too."""
        return int(self.about["rows"])

    def ledger(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The ledger's rows, or some columns of them."""
        from pyarrow.parquet import ParquetFile

        with ParquetFile(self.folder / LEDGER) as file:
            return file.read(None if columns is None else list(columns))

    def signatures(self) -> NDArray[np.uint32]:
        """uint32[n, bands * rows], memory-mapped; zeros for refused records."""
        array: NDArray[np.uint32] = np.load(self.folder / SIGNATURES, mmap_mode="r", allow_pickle=False)
        return array

    def frames(self) -> NDArray[np.int64]:
        """int64[n, 2]: where each row's text lies; -1 for refused records."""
        path = self.folder / FRAMES
        return _frames(path, path.stat().st_mtime_ns)

    def texts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row, {"id", "text", "before" where it was edited}) of every document, in order."""
        rows = np.flatnonzero(self.frames()[:, 0] >= 0)
        return zip(map(int, rows), iter_framed(self.folder / TEXTS), strict=True)

    def text(self, row: int) -> dict[str, Any]:
        """The same of one row.

        Raises:
            DamagedArtifactError: the row has no text, or the file is damaged.
        """
        place = self.frames()[row]
        if place[0] < 0:
            raise DamagedArtifactError(f"record {row} of {self.name} gave no text")
        found: dict[str, Any] = read_at(self.folder / TEXTS, place)
        return found


@lru_cache(maxsize=4)
def _frames(path: Path, changed: int) -> NDArray[np.int64]:
    """``changed``: the file's time, so that another file of that name is not taken for it."""
    array: NDArray[np.int64] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def parts_of(folder: Path) -> list[Part]:
    """All parts below a folder, in their canonical order: by name."""
    return [Part(path) for path in sorted(folder.iterdir()) if path.is_dir() and (path / PART).is_file()]
