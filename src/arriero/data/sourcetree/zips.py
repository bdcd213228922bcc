"""Files of a zip archive."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, Wanted, path_problem

_DIRECTORY = 64 << 20
"""Largest table of contents that is read."""
_SLACK = 64 << 20
_TAIL = (1 << 16) + 22
_END, _END64_LOCATOR, _END64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


def zip_members(path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted) -> Iterator[Member]:
    """Members in order of their headers. All that are read may unpack to at most ``limits.expansion`` times the
    archive's size (64 MiB are always allowed), which also stops archives whose members overlap."""
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
        yield _whole("read.damaged", str(error) or type(error).__name__, 0)


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
    left = max(limits.expansion * size, _SLACK)
    for info in sorted(archive.infolist(), key=lambda one: (one.header_offset, one.filename)):
        offset = info.header_offset
        if info.is_dir() or offset < start or (end is not None and offset >= end):
            continue
        problem = _problem(info, limits)
        if problem or not wanted(info.filename):
            yield Member(info.filename, offset, info.compress_size, False, None, *(problem or ("", "")))
            continue
        try:
            with archive.open(info) as file:
                content = file.read(min(limits.record_bytes, left) + 1)
        # as above: RuntimeError, zlib.error, EOFError, ...
        except Exception as error:
            detail = str(error) or type(error).__name__
            yield Member(info.filename, offset, info.compress_size, False, None, "read.damaged", detail)
            continue
        left -= len(content)
        if left < 0:
            detail = f"unpacks to more than {limits.expansion} times its size"
            yield Member(info.filename, offset, info.compress_size, False, None, "read.expansion", detail)
            return
        yield Member(info.filename, offset, info.compress_size, False, content)


def _problem(info: zipfile.ZipInfo, limits: Limits) -> tuple[str, str] | None:
    leads_out = path_problem(info.filename)
    if leads_out:
        return "read.path_escapes", leads_out
    mode = info.external_attr >> 16
    if mode and stat.S_ISLNK(mode):
        return "read.link", "a symbolic link"
    if mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
        return "read.not_a_file", "neither a file nor a folder"
    if info.flag_bits & 1:
        return "read.encrypted", "the member is encrypted"
    if info.file_size > limits.record_bytes:
        return "read.record_bytes", f"a file of {info.file_size:,} bytes"
    return None
