"""Hash-partitioned files between the map and the gather step of a global operation.

Each map task writes one file that holds its rows partition by partition; a gather task reads its partition out of all
of them. A file appears whole or not at all, and its bytes depend on the rows alone, so the order in which tasks end,
their number at a time and a restart change nothing. Memory follows one buffer (writing) and one partition of one file
(reading), never the whole.

Layout of a file: magic, header length (uint32), header (JSON: dtype, partitions), rows of each partition (int64
[partitions]), rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import PARTIAL, fsync_path
from arriero.errors import ArrieroError, DamagedArtifactError

SUFFIX = ".exchange"
_MAGIC = b"ARREX1\n\0"
BUFFER_BYTES = 32 << 20
"""Rows that a writer holds before it puts them into its temporary file."""


def partition_of(keys: NDArray[np.uint64], partitions: int) -> NDArray[np.int64]:
    """The partition of each key, 0 to ``partitions`` - 1; even for keys that are not.

    The keys are mixed (the finaliser of SplitMix64, Steele et al. 2014), then scaled by the upper 32 bits.
    """
    mixed = np.asarray(keys, np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return (((mixed >> np.uint64(32)) * np.uint64(partitions)) >> np.uint64(32)).astype(np.int64)


class ExchangeWriter:
    """The rows of one map task, by partition, in the order in which they were added.

    As a context manager it is closed at the end, and leaves nothing behind when the body fails.

    Args:
        folder: of the exchange; made when it is not there.
        name: the task's name, unique in the folder.
        dtype: of the rows; by default that of the first rows.
    """

    def __init__(self, folder: Path, name: str, partitions: int, dtype: Any = None) -> None:
        self._path = exchange_file(Path(folder), name)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._dtype = None if dtype is None else np.dtype(dtype)
        self._chunks: list[list[NDArray[Any]]] = [[] for _ in range(partitions)]
        self._spilled: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        self._counts = np.zeros(partitions, np.int64)
        self._held = 0
        self._spill: BinaryIO | None = None

    def add(self, partition: int, rows: NDArray[Any]) -> None:
        """Append rows to a partition.

        Raises:
            ValueError: their dtype is not that of the rows before, or there is no such partition.
        """
        if not 0 <= partition < len(self._counts):
            raise ValueError(f"partition {partition} is not among the {len(self._counts)}")
        self._dtype = self._dtype or rows.dtype
        if rows.dtype != self._dtype:
            raise ValueError(f"rows of {rows.dtype} do not fit into an exchange of {self._dtype}")
        if not len(rows):
            return
        self._chunks[partition].append(np.array(rows))
        self._counts[partition] += len(rows)
        self._held += rows.nbytes
        if self._held >= BUFFER_BYTES:
            self._flush()

    def scatter(self, partitions: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Append each row to its partition; rows of one partition keep their order."""
        order = np.argsort(partitions, kind="stable")
        bounds = np.searchsorted(partitions[order], np.arange(len(self._counts) + 1))
        if len(rows) and (bounds[0] != 0 or bounds[-1] != len(rows)):
            raise ValueError(f"a partition is not among the {len(self._counts)}")
        rows = rows[order]
        for partition in np.flatnonzero(np.diff(bounds)):
            self.add(int(partition), rows[bounds[partition] : bounds[partition + 1]])

    def close(self) -> None:
        """Make the file appear, whole."""
        temporary = self._temporary("out")
        try:
            with temporary.open("wb") as file:
                self._write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            fsync_path(self._path.parent)
        finally:
            self.discard()
            temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the rows and the temporary file."""
        self._chunks, self._held = [[] for _ in self._chunks], 0
        if self._spill is not None:
            self._spill.close()
            self._spill = None
            self._temporary("rows").unlink(missing_ok=True)

    def __enter__(self) -> ExchangeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()

    def _temporary(self, what: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{os.getpid()}.{what}{PARTIAL}")

    def _flush(self) -> None:
        if self._spill is None:
            self._spill = self._temporary("rows").open("w+b")
        for partition, chunks in enumerate(self._chunks):
            if chunks:
                data = b"".join(chunk.tobytes() for chunk in chunks)
                self._spilled[partition].append((self._spill.tell(), len(data)))
                self._spill.write(data)
        self._chunks, self._held = [[] for _ in self._chunks], 0

    def _write(self, file: BinaryIO) -> None:
        descr = None if self._dtype is None else np.lib.format.dtype_to_descr(self._dtype)
        header = json.dumps({"dtype": descr, "partitions": len(self._counts)}).encode()
        header += b" " * (-(len(_MAGIC) + 4 + len(header)) % 64)
        file.write(_MAGIC + len(header).to_bytes(4, "little") + header + self._counts.astype("<i8").tobytes())
        if self._spill is not None:
            self._flush()  # now every partition's rows lie in the temporary file, in order
            for pieces in self._spilled:
                for offset, size in pieces:
                    self._spill.seek(offset)
                    file.write(self._spill.read(size))
        else:
            for chunks in self._chunks:
                for chunk in chunks:
                    file.write(chunk.tobytes())


def exchange_file(folder: Path, name: str) -> Path:
    """Where a writer's rows lie; it is there when they all are."""
    return folder / f"{name}{SUFFIX}"


def iter_partition(
    folder: Path, partition: int, names: Sequence[str] | None = None
) -> Iterator[tuple[str, NDArray[Any]]]:
    """(writer's name, its rows of the partition as a read-only memory map), by the writer's name.

    Args:
        names: the writers that must be there; others are passed over. By default all files in the folder.

    Raises:
        ArrieroError: a writer's file is missing.
        DamagedArtifactError: a file is cut short or is no exchange file.
    """
    if names is None:
        names = [path.name.removesuffix(SUFFIX) for path in Path(folder).glob(f"[!.]*{SUFFIX}")]
    for name in sorted(names):
        rows = _rows(exchange_file(Path(folder), name), partition)
        if rows is not None:
            yield name, rows


def read_partition(
    folder: Path, partition: int, names: Sequence[str] | None = None, dtype: Any = None
) -> NDArray[Any]:
    """Rows of all writers, by the writer's name and then in the order of writing: the same bytes whatever ended first.

    ``dtype`` is that of the result when there are no rows. See :func:`iter_partition` for the rest.
    """
    found = [rows for _, rows in iter_partition(folder, partition, names)]
    if found:
        return np.concatenate(found)
    return np.empty(0, np.uint8 if dtype is None else dtype)


def _rows(path: Path, partition: int) -> NDArray[Any] | None:
    """Rows of one partition of one file; None when there are none."""
    try:
        with path.open("rb") as file:
            magic, length = file.read(len(_MAGIC)), int.from_bytes(file.read(4), "little")
            if magic != _MAGIC:
                raise DamagedArtifactError(f"{path} is no exchange file; remove it and start again")
            header = json.loads(file.read(length))
            counts = np.frombuffer(file.read(8 * header["partitions"]), "<i8")
            start, size = file.tell(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise ArrieroError(f"{path} is missing: the step before has not written it") from None
    except ValueError:
        raise DamagedArtifactError(f"{path} is damaged; remove it and start again") from None
    if not 0 <= partition < header["partitions"]:
        raise ArrieroError(f"{path} has {header['partitions']} partitions, so none of number {partition}")
    if header["dtype"] is None:
        return None
    dtype = np.lib.format.descr_to_dtype(_as_descr(header["dtype"]))
    if len(counts) != header["partitions"] or size != start + int(counts.sum()) * dtype.itemsize:
        raise DamagedArtifactError(f"{path} is cut short; remove it and start again")
    if not counts[partition]:
        return None
    offset = start + int(counts[:partition].sum()) * dtype.itemsize
    return np.memmap(path, dtype, "r", offset, (int(counts[partition]),))


def _as_descr(value: Any) -> Any:
    """JSON has lists where a dtype's description has tuples: of a field, and of its shape."""
    if isinstance(value, str):
        return value
    return [(field[0], _as_descr(field[1]), *(tuple(shape) for shape in field[2:])) for field in value]
