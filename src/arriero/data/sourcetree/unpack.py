"""Decompressed bytes of a file, in memory that the file's author cannot choose."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from arriero.data.files import needs_extra

ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_BLOCK = 1 << 16
_MEMORY = 256 << 20
"""Most memory that a decoder's window may take."""
_SLACK = 64 << 20
"""Small files may enlarge beyond the factor up to this many bytes."""


class DamagedError(ValueError):
    """The compressed bytes are broken or end too early."""


class ExpansionError(ValueError):
    """The content is larger than the limit allows."""


@contextmanager
def unpacked(path: Path, expansion: int, ending: str | None = None) -> Iterator[BinaryIO]:
    """A file's content by its last ending (or by ``ending``), without seeking; a plain file as it is (there one can seek).

    Reading raises :class:`DamagedError` for broken compression and :class:`ExpansionError` once the content is more
    than ``expansion`` times as large as the file (64 MiB are always allowed).

    Raises:
        OSError: the file cannot be opened.
        ArrieroError: a .zst file without the package zstandard.
    """
    ending = ending or path.suffix.lower()
    with path.open("rb") as raw:
        if ending not in ENDINGS:
            yield raw
            return
        most = max(expansion * path.stat().st_size, _SLACK)
        yield io.BufferedReader(_Content(_decoder(ending, path, raw), most), _BLOCK)


def _decoder(ending: str, path: Path, raw: BinaryIO) -> Any:
    if ending == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if ending == ".bz2":
        return bz2.BZ2File(raw)
    if ending == ".xz":
        return _Xz(raw)
    zstandard = needs_extra("zstandard", path)
    decoder = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
    return _Zstd(decoder.stream_reader(raw, read_across_frames=True), zstandard.ZstdError)


class _Content(io.RawIOBase):
    """The decoder's bytes, counted; its many kinds of complaint as one."""

    def __init__(self, decoder: Any, most: int) -> None:
        self._decoder, self._most, self._count = decoder, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._decoder.read(len(buffer))
        except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise DamagedError(str(error) or type(error).__name__) from None
        self._count += len(data)
        if self._count > self._most:
            raise ExpansionError(f"unpacks to more than {self._most:,} bytes")
        buffer[: len(data)] = data
        return len(data)


class _Xz:
    """xz with a bound on the decoder's memory, which the standard library's file object lacks."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._new = raw, lambda: lzma.LZMADecompressor(memlimit=_MEMORY)
        self._stream = self._new()
        self._rest = b""

    def read(self, count: int) -> bytes:
        while True:
            if self._stream.eof:
                self._rest = self._stream.unused_data or self._raw.read(_BLOCK)
                if not self._rest.strip(b"\0"):
                    return b""
                self._stream = self._new()
            if self._stream.needs_input and not self._rest:
                self._rest = self._raw.read(_BLOCK)
                if not self._rest:
                    raise EOFError("the last stream has no end")
            data, self._rest = self._stream.decompress(self._rest, count), b""
            if data:
                return data


class _Zstd:
    """zstandard's reader, which takes a frame that is cut short for the end of the file unless its size is known."""

    def __init__(self, reader: Any, problem: type[Exception]) -> None:
        self._reader, self._problem = reader, problem

    def read(self, count: int) -> bytes:
        try:
            data: bytes = self._reader.read(count)
        except self._problem as error:
            raise EOFError(str(error)) from None
        return data
