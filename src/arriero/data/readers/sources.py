"""Bytes of a raw file by position: as they lie on disk, or decompressed with bounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from arriero.data.files import needs_extra
from arriero.data.readers.inflate import gzip_member
from arriero.data.records import Limits, Refused
from arriero.errors import ArrieroError

BLOCK = 1 << 18
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class Problem(NamedTuple):
    """Why bytes could not be read: the ledger's reason and a line for people."""

    reason: str
    detail: str


def refusal(id: str, problem: Problem, where: tuple[int, int, bool], url: str | None = None) -> Refused:
    """The ledger's line for a problem. ``where``: offset, length, whether these count decompressed content."""
    return Refused(id, problem.reason, problem.detail, *where, url=url)


class Source(Protocol):
    """Something with bytes at positions. Reads behind its end are short."""

    problem: Problem | None
    """What ended the source before its time."""

    def read(self, position: int, count: int) -> bytes: ...


def forget(source: Source, position: int) -> None:
    """Nothing before ``position`` will be asked for again: a stream lets go of it, a file keeps nothing anyway."""
    if isinstance(source, StreamSource):
        source.forget(position)


class FileSource:
    """A file as it lies on disk.

    Raises:
        ArrieroError: it cannot be opened.
    """

    problem: Problem | None = None

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise ArrieroError(f"{path} cannot be read: {error.strerror}") from None
        self._descriptor = self._file.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def read(self, position: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, position)
        while 0 < len(data) < count:  # a signal or the system's limit of 2 GiB may cut a read short
            more = os.pread(self._descriptor, count - len(data), position + len(data))
            if not more:
                break
            data += more
        return data

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


class StreamSource:
    """Decompressed content that arrives in order; keeps what lies after the last :meth:`forget`."""

    def __init__(self, blocks: Iterator[bytes | Problem]) -> None:
        self.problem: Problem | None = None
        self._blocks = blocks
        self._start = 0
        self._kept = bytearray()
        self._ended = False

    def read(self, position: int, count: int) -> bytes:
        if position < self._start:
            raise ValueError(f"byte {position} was forgotten; the first that is kept is {self._start}")
        while not self._ended and self._start + len(self._kept) < position + count:
            self._kept += self._next()
        return bytes(self._kept[position - self._start : position - self._start + count])

    def forget(self, position: int) -> None:
        gone = min(position - self._start, len(self._kept))
        if gone > BLOCK:  # moving the rest to the front costs time, so not for every record
            del self._kept[:gone]
            self._start += gone

    def _next(self) -> bytes:
        block = next(self._blocks, None)
        if isinstance(block, bytes):
            return block
        self._ended, self.problem = True, block
        return b""


def content_blocks(
    source: FileSource, limits: Limits, start: int = 0, end: int | None = None
) -> Iterator[bytes | Problem]:
    """The content of a gzip, zstd or plain file (told by its first bytes) in blocks of bounded size; last, what is wrong.

    ``start``, ``end``: only the compressed bytes of this range, which must begin at a member or frame.
    """
    head = source.read(start, 4)
    end = source.size if end is None else min(end, source.size)
    if head[:3] == GZIP_MAGIC:
        return _unpacked(source, start, end, limits, _new_gzip, "gzip")
    if head == ZSTD_MAGIC or head[1:4] == b"\x2a\x4d\x18":
        return _unpacked(source, start, end, limits, _new_zstd, "zstd")
    return _plain(source, start, end)


def _plain(source: FileSource, start: int, end: int) -> Iterator[bytes | Problem]:
    while start < end:
        block = source.read(start, min(BLOCK, end - start))
        if not block:
            return
        yield block
        start += len(block)


class _Gzip:
    """A gzip member: ``decompress`` gives at most BLOCK bytes, and keeps the rest of its input."""

    def __init__(self) -> None:
        self._member = gzip_member()

    def decompress(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """(output, input that is left, whether the member is complete)."""
        out = self._member.decompress(data, BLOCK)
        if self._member.eof:
            return out, self._member.unused_data, True
        return out, self._member.unconsumed_tail, False


class _Zstd:
    """A zstd frame. Its library has no bound on the output of one call, so the input comes in small pieces: one holds
    256 blocks at most, and a block gives at most 128 KiB (RFC 8878, 3.1.1.2.4)."""

    _PIECE = 1024

    def __init__(self, zstandard: Any) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()

    def decompress(self, data: bytes) -> tuple[bytes, bytes, bool]:
        out = self._frame.decompress(data[: self._PIECE])
        if self._frame.eof:
            return out, self._frame.unused_data + data[self._PIECE :], True
        return out, data[self._PIECE :], False


def _new_gzip() -> _Gzip:
    return _Gzip()


def _new_zstd() -> _Zstd:
    return _Zstd(needs_extra("zstandard", Path("a .zst file")))


def _unpacked(
    source: FileSource, start: int, end: int, limits: Limits, new: Callable[[], Any], kind: str
) -> Iterator[bytes | Problem]:
    position, made = start, 0
    left, unit = b"", None
    while True:
        if not left:
            left = source.read(position, min(1 << 16, end - position))
            position += len(left)
        if not left:
            if unit is not None:
                yield Problem("read.truncated", f"the {kind} data stop in the middle, at byte {position}")
            return
        if unit is None:
            left = left.lstrip(b"\0") if kind == "gzip" else left  # padding to a tape's or disk's block
            if not left:
                continue
            unit = new()
        try:
            out, left, complete = unit.decompress(left)
        except Exception:  # zlib's, isal's, zstandard's: the modules may not be there
            yield Problem(f"read.{kind}", f"the {kind} data are damaged before byte {position}")
            return
        unit = None if complete else unit
        made += len(out)
        if made > limits.expansion * (position - start) + limits.record_bytes:
            yield out
            yield Problem("read.expansion", f"{kind} data of {position - start} bytes give more than {made}")
            return
        if out:
            yield out
