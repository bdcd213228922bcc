"""Members of tar and zip archives, each bounded, none of them ever written to disk.

Links, devices, absolute names and names with ``..`` are refused; so are members over the record limit, encrypted ones,
and those that decompress to far more than they take.
"""

from __future__ import annotations

import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from arriero.data.readers.sources import FileSource, Problem, Source, StreamSource, content_blocks, forget
from arriero.data.records import Limits

_TAR_BLOCK = 512
_NAME_BYTES = 1 << 16
_LONG_NAME = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_FILE = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_SKIPPED = (tarfile.DIRTYPE,)
_SMALL = 1 << 20


class Member(NamedTuple):
    """A member: its name, where it begins (in the archive, or in a tar's decompressed content), and its bytes or why not."""

    name: str
    offset: int
    length: int
    data: bytes
    problem: Problem | None = None


def is_zip(source: FileSource) -> bool:
    """True for zip archives, by their first bytes."""
    return source.read(0, 4) in (b"PK\x03\x04", b"PK\x05\x06")


def iter_members(source: FileSource, limits: Limits) -> Iterator[Member]:
    """Regular files of a .zip, .tar, .tar.gz or .tar.zst in their order; folders are passed over."""
    if is_zip(source):
        yield from _zip(source, limits)
    else:
        yield from _tar(StreamSource(content_blocks(source, limits)), limits)


def unsafe_name(name: str) -> str | None:
    """What is wrong with a member's name, or None."""
    if "\0" in name:
        return "the name holds a NUL"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return f"the name {name[:80]!r} is absolute"
    if ".." in re.split(r"[/\\]", name):
        return f"the name {name[:80]!r} leaves the archive"
    return None


# ---------------------------------------------------------------- tar


def _tar(source: Source, limits: Limits) -> Iterator[Member]:
    """Headers are read here and not by tarfile, which reads a long name of any length into memory."""
    position, start, name, size = 0, None, None, None
    while True:
        block = source.read(position, _TAR_BLOCK)
        first = position if start is None else start
        if len(block) < _TAR_BLOCK or not any(block):
            if source.problem is not None or 0 < len(block) < _TAR_BLOCK:
                problem = source.problem or Problem("read.truncated", "a header stops in the middle")
                yield Member(name or "", first, position - first, b"", problem)
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            following = _next_header(source, position + _TAR_BLOCK)
            detail = f"no header of a member: {error}"
            yield Member("", position, following - position, b"", Problem("read.header", detail))
            position, start, name, size = following, None, None, None
            continue
        data_at = position + _TAR_BLOCK
        if info.type in _LONG_NAME or info.type in _PAX:
            if info.size > _NAME_BYTES:
                detail = f"a header of {info.size} bytes"
                yield Member("", position, info.size, b"", Problem("read.header", detail))
            else:
                extra = source.read(data_at, info.size)
                name, size = _extended(info.type, extra, name, size)
                start = first
            position = data_at + _padded(info.size)
            _skip(source, data_at, position)  # where the source ends before, the next header is missing
            continue
        length = info.size if size is None else size
        yield from _tar_member(source, info, name or info.name, (first, data_at, length), limits)
        position = data_at + _padded(length)
        start = name = size = None
        if not _skip(source, data_at, position):
            problem = source.problem or Problem("read.truncated", "the archive stops in a member")
            if length > limits.record_bytes:
                yield Member("", position, 0, b"", problem)
            return


def _extended(type: bytes, data: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """The name and size that a GNU or pax header gives to the next member."""
    if type == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape"), size
    if type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        while found := re.match(rb"(\d{1,6}) ([^=\n]+)=", data):
            length = int(found[1])
            value = data[found.end() : max(length - 1, 0)]
            if found[2] == b"path":
                name = value.decode("utf-8", "surrogateescape")
            elif found[2] == b"size" and value.isdigit() and len(value) < 19:
                size = int(value)
            data = data[length:] if length else b""
    return name, size


def _tar_member(
    source: Source, info: tarfile.TarInfo, name: str, where: tuple[int, int, int], limits: Limits
) -> Iterator[Member]:
    first, data_at, length = where
    whole = data_at + length - first
    if info.type in _SKIPPED:
        return
    problem = None
    wrong = unsafe_name(name)
    if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        problem = Problem("read.link", f"{name[:80]!r} is a link to {info.linkname[:80]!r}")
    elif info.type not in _FILE:
        problem = Problem("read.not_a_file", f"{name[:80]!r} is a device or of the type {info.type!r}")
    elif wrong:
        problem = Problem("read.path", wrong)
    elif length > limits.record_bytes:
        problem = Problem("read.too_large", f"{name[:80]!r} has {length} bytes, over {limits.record_bytes}")
    data = b"" if problem else source.read(data_at, length)
    if problem is None and len(data) < length:
        problem = source.problem or Problem(
            "read.truncated", f"{len(data)} of {length} bytes of {name[:80]!r}"
        )
        data = b""
    yield Member(name, first, whole, data, problem)


def _padded(size: int) -> int:
    return -(-max(size, 0) // _TAR_BLOCK) * _TAR_BLOCK


def _skip(source: Source, start: int, end: int) -> bool:
    """Pass over bytes without keeping them; False where the source ends before."""
    if isinstance(source, StreamSource):
        while start < end:
            count = min(_SMALL, end - start)
            if len(source.read(start, count)) < count:
                return False
            start += count
            forget(source, start)
    return True


def _next_header(source: Source, position: int) -> int:
    """The next block with a right checksum, or where the source ends."""
    while True:
        block = source.read(position, _TAR_BLOCK)
        if len(block) < _TAR_BLOCK:
            return position + len(block)
        try:
            tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            position += _TAR_BLOCK
            forget(source, position)
        else:
            return position


# ---------------------------------------------------------------- zip


class _Raw:
    """What zipfile needs of a file, by positioned reads."""

    def __init__(self, source: FileSource) -> None:
        self._source, self._at = source, 0

    def read(self, count: int = -1) -> bytes:
        data = self._source.read(self._at, self._source.size - self._at if count < 0 else count)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._source.size)[whence]
        if self._at < 0:
            raise OSError("before the beginning")
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True


def _zip(source: FileSource, limits: Limits) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(_Raw(source))
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    except Exception as error:  # zipfile raises many kinds on damaged directories
        yield Member("", 0, source.size, b"", Problem("read.zip", f"no list of members: {error}"))
        return
    reached, made = 0, 0
    for entry in entries:
        if entry.is_dir():
            continue
        problem = _zip_problem(entry, reached, limits)
        data: bytes | Problem = problem if problem else _unzipped(archive, entry, limits)
        reached = max(reached, entry.header_offset + 30 + entry.compress_size)
        if not isinstance(data, Problem):
            made += len(data)
            if made > limits.expansion * source.size + limits.record_bytes:
                data = Problem("read.expansion", f"an archive of {source.size} bytes gives more than {made}")
        where = (entry.filename, entry.header_offset, entry.compress_size)
        if isinstance(data, Problem):
            yield Member(*where, b"", data)
        else:
            yield Member(*where, data)


def _zip_problem(entry: zipfile.ZipInfo, reached: int, limits: Limits) -> Problem | None:
    wrong = unsafe_name(entry.orig_filename)
    mode = entry.external_attr >> 16
    name = entry.filename[:80]
    if wrong:
        return Problem("read.path", wrong)
    if stat.S_ISLNK(mode):
        return Problem("read.link", f"{name!r} is a symbolic link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Problem("read.not_a_file", f"{name!r} is no regular file")
    if entry.flag_bits & 0x1:
        return Problem("read.encrypted", f"{name!r} is encrypted")
    if entry.header_offset < reached:
        return Problem("read.overlap", f"{name!r} lies inside another member")
    if entry.file_size > limits.record_bytes:
        return Problem("read.too_large", f"{name!r} has {entry.file_size} bytes, over {limits.record_bytes}")
    if entry.file_size > limits.expansion * entry.compress_size + _SMALL:
        return Problem("read.expansion", f"{name!r}: {entry.compress_size} bytes give {entry.file_size}")
    return None


def _unzipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: Limits) -> bytes | Problem:
    """At most the stated size is read: zipfile stops there, and checks the CRC."""
    try:
        file: IO[bytes]
        with archive.open(entry) as file:
            data = file.read(limits.record_bytes + 1)
    except Exception as error:  # zipfile raises many kinds on damaged members
        return Problem("read.zip", f"{entry.filename[:80]!r}: {error or type(error).__name__}")
    if len(data) > limits.record_bytes:
        return Problem("read.too_large", f"{entry.filename[:80]!r} has more than {limits.record_bytes} bytes")
    if len(data) != entry.file_size:
        return Problem("read.truncated", f"{len(data)} of {entry.file_size} bytes of {entry.filename[:80]!r}")
    return data


def content_type_of(name: str) -> str | None:
    """What a member's ending says of its content; None for endings that mean no text."""
    ending = Path(name).suffix.lower()
    if ending in (".html", ".htm", ".xhtml"):
        return "text/html"
    if ending in (".txt", ".text", ".md", ".rst", ""):
        return "text/plain"
    if ending == ".tex":
        return "application/x-tex"
    return None
