"""Where the posts of a dump lie, by question, in a file: how a split finds answers anywhere in a dump in flat memory.

The first of two passes over a dump writes one entry of 29 bytes a post into a scratch file, in runs, and merges the
runs by buckets of question numbers; the second reads a split's questions and fetches their answers by offset.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from arriero.data.stackexchange.rows import Row, attributes, scan
from arriero.errors import ArrieroError

ENTRY = np.dtype([("question", "<i8"), ("kind", "u1"), ("post", "<i8"), ("offset", "<i8"), ("length", "<u4")])
"""One post: the question that it belongs to (its own number for a question), its kind (1 question, 2 answer), number
and place."""
QUESTION, ANSWER = 1, 2
_BUCKETS, _SHIFT = 256, 10
"""1,024 neighbouring questions share a bucket, so a split's questions touch few of them."""
_RUN = 1 << 17
_VERSION = 1

_TYPE = re.compile(rb'\sPostTypeId="(\d+)"')
_ID = re.compile(rb'\sId="(\d{1,18})"')
_SINGLE = re.compile(rb"=\s*'")
"""Perhaps a value in single quotes, in which double ones may stand."""
_PARENT = re.compile(rb'\sParentId="(\d{1,18})"')


class PostIndex:
    """Entries of a dump, sorted by question, then kind, then place in the file; looked up in a memory map."""

    def __init__(self, file: Path) -> None:
        header = np.fromfile(file, dtype="<i8", count=_BUCKETS + 1)
        count = int(header[-1])
        self._starts = header
        shape = (count,)
        self._entries: NDArray[np.void] = (
            np.memmap(file, dtype=ENTRY, mode="r", offset=header.nbytes, shape=shape)
            if count
            else np.empty(0, ENTRY)
        )
        self._bucket = -1
        self._part: NDArray[np.void] = np.empty(0, ENTRY)
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)

    def posts_of(self, question: int) -> NDArray[np.void]:
        """Entries of one question: its own first (none if it is not in the dump), then its answers'."""
        bucket = (question >> _SHIFT) % _BUCKETS
        if bucket != self._bucket:
            self._bucket = bucket
            self._part = np.array(self._entries[int(self._starts[bucket]) : int(self._starts[bucket + 1])])
            self._numbers = np.ascontiguousarray(self._part["question"])
        first, last = np.searchsorted(self._numbers, (question, question + 1))
        return self._part[first:last]


def index_of(path: Path, most: int, folder: Path | None = None) -> PostIndex:
    """The index of a dump, built when it is not yet in ``folder`` (default: a folder of the user's among the
    system's temporary files). Several processes may build it at once: it appears whole.

    ``most``: longest row that is read, in bytes.

    Raises:
        ArrieroError: the folder is another user's.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"arriero-stackexchange-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ArrieroError(f"{folder} belongs to somebody else; give the source the option index_folder")
    state = path.stat()
    key = f"{_VERSION}\0{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0{most}"
    file = folder / (
        hashlib.blake2b(key.encode(errors="surrogateescape"), digest_size=16).hexdigest() + ".index"
    )
    if not file.exists():
        with path.open("rb") as dump:
            build(dump, file, most)
    return PostIndex(file)


def build(dump: BinaryIO, file: Path, most: int) -> None:
    """Write the index of an open dump. Memory: one run (:data:`_RUN` entries) or one bucket."""
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        runs, starts = Path(scratch) / "runs", []
        with runs.open("wb") as out:
            for run in _runs(dump, most):
                run.tofile(out)
                starts.append(np.searchsorted(_buckets(run), np.arange(_BUCKETS + 1)))
        whole = Path(scratch) / "index"
        _merge(runs, np.array(starts, np.int64).reshape(-1, _BUCKETS + 1), whole)
        whole.replace(file)


def _runs(dump: BinaryIO, most: int) -> Iterator[NDArray[np.void]]:
    run: list[tuple[int, int, int, int, int]] = []
    for row in scan(dump, 0, None, most):
        entry = entry_of(row.data)
        if entry is not None:
            run.append((*entry, row.offset, row.length))
            if len(run) == _RUN:
                yield _sorted(np.array(run, ENTRY))
                run = []
    if run:
        yield _sorted(np.array(run, ENTRY))


def entry_of(data: bytes) -> tuple[int, int, int] | None:
    """(question, kind, post) of a row; None for one that is neither question nor answer."""
    kind, number = _TYPE.search(data), _ID.search(data)
    if kind is None or number is None or _SINGLE.search(data):
        return _entry_of_any_quotes(data)
    if kind[1] == b"1":
        return int(number[1]), QUESTION, int(number[1])
    parent = _PARENT.search(data) if kind[1] == b"2" else None
    return (int(parent[1]), ANSWER, int(number[1])) if parent else None


def _entry_of_any_quotes(data: bytes) -> tuple[int, int, int] | None:
    """The same for rows whose values stand in single quotes."""
    values = attributes(Row(0, len(data), data))
    if isinstance(values, tuple):
        return None
    number, parent = number_of(values.get("Id")), number_of(values.get("ParentId"))
    if values.get("PostTypeId") == "1" and number is not None:
        return number, QUESTION, number
    is_answer = values.get("PostTypeId") == "2" and number is not None and parent is not None
    return (parent, ANSWER, number) if is_answer and parent is not None and number is not None else None


def number_of(value: str | None) -> int | None:
    """A whole number of at most 18 digits, with a sign or without; None for anything else."""
    if value is None or not re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        return None
    return int(value)


def _buckets(run: NDArray[np.void]) -> NDArray[np.int64]:
    return np.asarray((run["question"] >> _SHIFT) % _BUCKETS)


def _sorted(entries: NDArray[np.void]) -> NDArray[np.void]:
    keys = (entries["offset"], entries["kind"], entries["question"], _buckets(entries))
    return entries[np.lexsort(keys)]


def _merge(runs: Path, starts: NDArray[np.int64], whole: Path) -> None:
    """Entries of all runs, bucket by bucket, behind the buckets' first positions."""
    lengths = starts[:, -1]
    bases = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    counts = np.diff(starts, axis=1).sum(axis=0) if len(starts) else np.zeros(_BUCKETS, np.int64)
    header = np.concatenate([[0], np.cumsum(counts)]).astype("<i8")
    with runs.open("rb") as source, whole.open("wb") as out:
        header.tofile(out)
        for bucket in range(_BUCKETS):
            parts = []
            for run in range(len(starts)):
                first, last = int(starts[run, bucket]), int(starts[run, bucket + 1])
                if last > first:
                    source.seek(int(bases[run] + first) * ENTRY.itemsize)
                    parts.append(np.fromfile(source, dtype=ENTRY, count=last - first))
            if parts:
                _sorted(np.concatenate(parts)).tofile(out)
