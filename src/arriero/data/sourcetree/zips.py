"""Files of a zip archive, each bounded, and all of them together."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from arriero.data.readers.sources import Problem
from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, Wanted, path_problem

_DIRECTORY = 64 << 20
"""Largest table of contents that is read."""
_SLACK = 64 << 20
"""Archives may enlarge beyond the factor up to this many bytes."""
_SMALL = 1 << 20
"""And each member up to this many."""
_HEADER = 30
_TAIL = (1 << 16) + 22
_END, _END64_LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


def zip_members(path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted) -> Iterator[Member]:
    """Members in order of their headers. All that are read may unpack to at most ``limits.expansion`` times the
    archive's size (64 MiB are always allowed); members that share their bytes are refused."""
    try:
        size = path.stat().st_size
        listed = directory_bytes(path)
        if listed > _DIRECTORY:
            yield _whole("read.too_many_members", f"a table of contents of {listed:,} bytes", size)
            return
        with zipfile.ZipFile(path) as archive:
            yield from _members(archive, size, start, end, limits, wanted)
    # zipfile raises nearly anything on a damaged archive: BadZipFile, struct.error, ValueError, NotImplementedError
    except Exception as error:
        yield _whole("read.zip", f"no list of members: {error or type(error).__name__}", size)


def directory_bytes(path: Path) -> int:
    """Size of the table of contents as the archive's end states it; 0 where it states none."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            return 0
        stated: int = struct.unpack_from("<I", tail, at + 12)[0]
        if stated == 0xFFFFFFFF and tail[at - 20 : at - 16] == _END64_LOCATOR:
            file.seek(min(struct.unpack_from("<Q", tail, at - 12)[0], size))
            record = file.read(56)
            if record[:4] == _END64 and len(record) == 56:
                stated = struct.unpack_from("<Q", record, 40)[0]
        return stated


def _whole(problem: str, detail: str, length: int) -> Member:
    return Member("", 0, length, False, None, problem, detail)


def _members(
    archive: zipfile.ZipFile, size: int, start: int, end: int | None, limits: Limits, wanted: Wanted
) -> Iterator[Member]:
    left, reached = max(limits.expansion * size, _SLACK), 0
    for info in sorted(archive.infolist(), key=lambda one: (one.header_offset, one.filename)):
        offset, before = info.header_offset, reached
        if info.is_dir():
            continue
        reached = max(reached, offset + _HEADER + info.compress_size)
        if offset < start or (end is not None and offset >= end):
            continue
        found: bytes | Problem | None = _problem(info, before, limits)
        if found is None and wanted(info.filename):
            found = _content(archive, info, min(limits.record_bytes, left))
        if isinstance(found, bytes):
            left -= len(found)
            if left < 0:
                detail = f"unpacks to more than {limits.expansion} times its size"
                yield Member(info.filename, offset, info.compress_size, False, None, "read.expansion", detail)
                return
        content, problem = (found, ("", "")) if isinstance(found, bytes) else (None, found or ("", ""))
        yield Member(info.filename, offset, info.compress_size, False, content, *problem)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes | Problem:
    """At most one byte more than ``most``; zipfile stops at the stated size, and checks the CRC."""
    name = info.filename[:80]
    try:
        with archive.open(info) as file:
            data = file.read(most + 1)
    # as above: RuntimeError, zlib.error, EOFError, ...
    except Exception as error:
        return Problem("read.zip", f"{name!r}: {error or type(error).__name__}")
    if len(data) != info.file_size and len(data) <= most:
        return Problem("read.truncated", f"{len(data)} of {info.file_size} bytes of {name!r}")
    return data


def _problem(info: zipfile.ZipInfo, reached: int, limits: Limits) -> Problem | None:
    name, mode = info.filename[:80], info.external_attr >> 16
    wrong = path_problem(info.orig_filename)
    if wrong:
        return Problem("read.path", wrong)
    if stat.S_ISLNK(mode):
        return Problem("read.link", f"{name!r} is a symbolic link")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Problem("read.not_a_file", f"{name!r} is no regular file")
    if info.flag_bits & 0x1:
        return Problem("read.encrypted", f"{name!r} is encrypted")
    if info.header_offset < reached:
        return Problem("read.overlap", f"{name!r} lies inside another member")
    if info.file_size > limits.record_bytes:
        return Problem("read.too_large", f"{name!r} has {info.file_size} bytes, over {limits.record_bytes}")
    if info.file_size > limits.expansion * info.compress_size + _SMALL:
        return Problem("read.expansion", f"{name!r}: {info.compress_size} bytes give {info.file_size}")
    return None
