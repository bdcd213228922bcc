"""Files of a tar archive, plain or compressed."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, Wanted, is_packed_tar, path_problem
from arriero.data.sourcetree.unpack import DamagedError, ExpansionError, unpacked

_EXTENSION = 1 << 20
"""Largest header extension (long names, pax records); tarfile would read any into memory."""
_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip
_SHORT = {".tgz": ".gz", ".tbz": ".bz2", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}


class _Header(tarfile.TarInfo):
    """A header that is refused when it announces an extension of unbounded size."""

    @classmethod
    def frombuf(cls, *arguments: Any, **named: Any) -> _Header:
        made = super().frombuf(*arguments, **named)
        if made.type in _EXTENSIONS and made.size > _EXTENSION:
            raise tarfile.ReadError(f"a header extension of {made.size:,} bytes")
        return made


def tar_members(path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted) -> Iterator[Member]:
    """Members in order. A compressed tar is read from its beginning whatever the range."""
    packed = is_packed_tar(path)
    ending = _SHORT.get(path.suffix.lower())
    try:
        with unpacked(path, limits.expansion, ending) as file:
            yield from _members(file, packed, start, end, limits, wanted)
    except ExpansionError as error:
        yield Member("", 0, 0, packed, None, "read.expansion", str(error))
    # tarfile raises more than TarError on damaged headers: ValueError, OverflowError, UnicodeError, ...
    except Exception as error:
        yield Member("", 0, 0, packed, None, "read.damaged", str(error) or type(error).__name__)


def _members(
    file: BinaryIO, packed: bool, start: int, end: int | None, limits: Limits, wanted: Wanted
) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r|" if packed else "r:", tarinfo=_Header) as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it would keep every header
            offset, length = info.offset, info.offset_data - info.offset + max(info.size, 0)
            if end is not None and offset >= end:
                return
            if info.isdir() or offset < start:
                continue
            problem = _problem(info, limits)
            content = None
            if not problem and wanted(info.name):
                opened = archive.extractfile(info)
                content = opened.read(limits.record_bytes + 1) if opened else b""
                if len(content) < info.size:
                    raise DamagedError(f"the archive ends inside {info.name}")
            yield Member(info.name, offset, length, packed, content, *(problem or ("", "")))


def _problem(info: tarfile.TarInfo, limits: Limits) -> tuple[str, str] | None:
    leads_out = path_problem(info.name)
    if leads_out:
        return "read.path_escapes", leads_out
    if info.issym() or info.islnk():
        return "read.link", "a link"
    if not info.isreg() or info.issparse():
        return "read.not_a_file", "a sparse file" if info.issparse() else "neither a file nor a folder"
    if info.size > limits.record_bytes:
        return "read.record_bytes", f"a file of {info.size:,} bytes"
    return None
