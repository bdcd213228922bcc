"""Files of a tar archive, plain or compressed (told by its first bytes), in memory that its author cannot choose.

Headers are read here and not by tarfile, which reads a long name of any length into memory and gives up at the first
damaged header; here what follows the damage is found again.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from arriero.data.readers.sources import FileSource, Problem, Source, StreamSource, forget
from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, Wanted, path_problem
from arriero.data.sourcetree.packed import archive_blocks, is_packed

_BLOCK = 512
_EXTENSION = 1 << 16
"""Most bytes of a long name or of pax records."""
_SKIP = 1 << 20
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_FILE = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


def tar_members(path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted) -> Iterator[Member]:
    """Members in order. A compressed tar is read from its beginning whatever the range."""
    with FileSource(path) as file:
        packed = is_packed(file)
        source: Source = StreamSource(archive_blocks(file, limits)) if packed else file
        yield from _Walk(source, packed, start, end, limits, wanted).members()


@dataclass
class _Next:
    """What extension headers say of the member that follows them."""

    first: int | None = None
    name: str | None = None
    size: int | None = None


class _Walk:
    def __init__(
        self, source: Source, packed: bool, start: int, end: int | None, limits: Limits, wanted: Wanted
    ) -> None:
        self._source, self._packed = source, packed
        self._start, self._end = start, end
        self._limits, self._wanted = limits, wanted

    def members(self) -> Iterator[Member]:
        """Everything but folders."""
        source, position, following = self._source, 0, _Next()
        while True:
            block = source.read(position, _BLOCK)
            first = position if following.first is None else following.first
            if self._end is not None and first >= self._end:
                return
            if len(block) < _BLOCK or not any(block):
                if source.problem is not None or 0 < len(block) < _BLOCK:
                    problem = source.problem or Problem("read.truncated", "a header stops in the middle")
                    yield from self._bad(following.name or "", first, position - first, problem)
                return
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                if info.size < 0:
                    raise tarfile.HeaderError("a negative size")
            except tarfile.HeaderError as error:
                after = _next_header(source, position + _BLOCK)
                problem = Problem("read.header", f"no header of a member: {error}")
                yield from self._bad("", position, after - position, problem)
                position, following = after, _Next()
                continue
            data_at = position + _BLOCK
            if info.type in _LONG_NAME or info.type in _PAX:
                if info.size > _EXTENSION:
                    problem = Problem("read.header", f"a header of {info.size} bytes")
                    yield from self._bad("", position, info.size, problem)
                else:
                    _extend(following, info.type, source.read(data_at, info.size))
                    following.first = first
                position = data_at + _padded(info.size)
                _skip(source, data_at, position)  # where the source ends before, the next header is missing
                continue
            length = info.size if following.size is None else following.size
            yield from self._member(info, following.name or info.name, (first, data_at, length))
            position, following = data_at + _padded(length), _Next()
            if not _skip(source, data_at, position):
                problem = source.problem or Problem("read.truncated", "the archive stops in a member")
                if length > self._limits.record_bytes:
                    yield from self._bad("", position, 0, problem)
                return

    def _bad(self, name: str, offset: int, length: int, problem: Problem) -> Iterator[Member]:
        if offset >= self._start:
            yield Member(name, offset, length, self._packed, None, *problem)

    def _member(self, info: tarfile.TarInfo, name: str, where: tuple[int, int, int]) -> Iterator[Member]:
        first, data_at, length = where
        if info.type == tarfile.DIRTYPE or first < self._start:
            return
        problem, content = _problem(info, name, length, self._limits), None
        if problem is None and self._wanted(name):
            content = self._source.read(data_at, length)
            if len(content) < length:
                detail = f"{len(content)} of {length} bytes of {name[:80]!r}"
                problem, content = self._source.problem or Problem("read.truncated", detail), None
        whole = data_at + length - first
        yield Member(name, first, whole, self._packed, content, *(problem or ("", "")))


def _problem(info: tarfile.TarInfo, name: str, length: int, limits: Limits) -> Problem | None:
    wrong = path_problem(name)
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        return Problem("read.link", f"{name[:80]!r} is a link to {info.linkname[:80]!r}")
    if info.type not in _FILE:
        return Problem("read.not_a_file", f"{name[:80]!r} is a device or of the type {info.type!r}")
    if wrong:
        return Problem("read.path", wrong)
    if length > limits.record_bytes:
        return Problem("read.too_large", f"{name[:80]!r} has {length} bytes, over {limits.record_bytes}")
    return None


def _extend(following: _Next, type: bytes, data: bytes) -> None:
    """Take the name and size that a GNU or pax header gives to the next member."""
    if type == tarfile.GNUTYPE_LONGNAME:
        following.name = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    elif type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        while found := re.match(rb"(\d{1,6}) ([^=\n]+)=", data):
            length = int(found[1])
            value = data[found.end() : max(length - 1, 0)]
            if found[2] == b"path":
                following.name = value.decode("utf-8", "surrogateescape")
            elif found[2] == b"size" and value.isdigit() and len(value) < 19:
                following.size = int(value)
            data = data[length:] if length else b""


def _padded(size: int) -> int:
    return -(-max(size, 0) // _BLOCK) * _BLOCK


def _skip(source: Source, start: int, end: int) -> bool:
    """Pass over bytes without keeping them; False where the source ends before."""
    if isinstance(source, StreamSource):
        while start < end:
            count = min(_SKIP, end - start)
            if len(source.read(start, count)) < count:
                return False
            start += count
            forget(source, start)
    return True


def _next_header(source: Source, position: int) -> int:
    """The next block with a right checksum, or where the source ends."""
    while True:
        block = source.read(position, _BLOCK)
        if len(block) < _BLOCK:
            return position + len(block)
        try:
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            position += _BLOCK
            forget(source, position)
        else:
            return position
