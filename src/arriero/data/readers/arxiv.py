"""arXiv's sources: the bulk archives (a tar of submissions), single submissions (.tar.gz, .gz) and plain .tex files."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from arriero.data.records import Limits, Record, Refused

CONTENT_TYPE = "application/x-tex"
_OLD_ID = re.compile(r"^([a-z][a-z-]*(?:\.[A-Z]{2})?)(\d{7})$")
_NEW_ID = re.compile(r"^\d{4}\.\d{4,5}(?:v\d+)?$")
_SUBMISSION = (".gz", ".tex", ".ltx")
_BLOCK = 512


def arxiv_id(name: str) -> str | None:
    """The identifier that a file is named after: 0704.0001.gz, hep-th9901001.gz."""
    stem = name.rsplit("/", 1)[-1]
    for ending in (".tar.gz", ".gz", ".tex", ".tar", ".pdf"):
        stem = stem.removesuffix(ending)
    if _NEW_ID.match(stem):
        return stem
    old = _OLD_ID.match(stem)
    return f"{old[1]}/{old[2]}" if old else None


class ArxivReader:
    """A record is one submission, as it lies there: gzip, a gzipped archive, or TeX; the extractor opens it."""

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """Ranges of a bulk archive that begin at members; other files are one record."""
        starts = [0]
        if path.suffix == ".tar" and _is_collection(path):
            with path.open("rb") as file:
                for member in _walk(file):
                    if isinstance(member, tarfile.TarInfo) and member.offset - starts[-1] >= split_bytes:
                        starts.append(member.offset)
        return list(zip(starts, [*starts[1:], None], strict=True))

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """Submissions that begin in the range. A file of another kind (.pdf: no source was given) is refused as
        ``read.not_tex``, one over the limit as ``read.too_large``, a rest that is no archive as ``read.damaged``."""
        if path.suffix != ".tar" or not _is_collection(path):
            yield _whole(path, limits)
            return
        with path.open("rb") as file:
            file.seek(start)
            for member in _walk(file):
                if isinstance(member, Refused):
                    yield member
                elif end is not None and member.offset >= end:
                    return
                elif member.isdir():
                    continue
                else:
                    found = _member(file, member, limits)
                    yield found
                    if isinstance(found, Refused) and found.reason == "read.truncated":
                        return


def _is_collection(path: Path) -> bool:
    """Whether a tar holds submissions, and is not one itself."""
    with path.open("rb") as file:
        names = [
            member.name
            for member, _ in zip(_walk(file), range(50), strict=False)
            if isinstance(member, tarfile.TarInfo)
        ]
    return not any(name.endswith((".tex", ".ltx")) for name in names)


def _walk(file: BinaryIO) -> Iterator[tarfile.TarInfo | Refused]:
    """Members from where the file stands on; a rest that is no archive ends it with one refusal."""
    begin = file.tell()
    position = begin
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - it owns nothing: the file is the caller's
        while (member := archive.next()) is not None:
            yield member
            position = member.offset_data + member.size
            archive.members = []  # type: ignore[attr-defined]  # or it keeps every member that was met
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError, UnicodeError) as error:
        length = file.seek(0, 2) - position
        yield Refused(f"{position}", "read.damaged", f"tar: {error}", position, max(0, length))


def _member(file: BinaryIO, member: tarfile.TarInfo, limits: Limits) -> Record | Refused:
    name = arxiv_id(member.name) or member.name
    where = (member.offset_data, member.size)
    if not member.isfile():
        return Refused(name, "read.unsafe_member", "a link or a device", *where)
    if not member.name.endswith(_SUBMISSION):
        return Refused(name, "read.not_tex", f"{member.name[-40:]!r} is no LaTeX source", *where)
    if member.size > limits.record_bytes:
        return Refused(name, "read.too_large", f"{member.size} bytes", *where)
    place = file.tell()
    file.seek(member.offset_data)
    content = file.read(member.size)
    file.seek(place)
    if len(content) < member.size:
        return Refused(name, "read.truncated", f"{len(content)} of {member.size} bytes", *where)
    return _record(name, arxiv_id(member.name), content, *where)


def _whole(path: Path, limits: Limits) -> Record | Refused:
    found = arxiv_id(path.name)
    size = path.stat().st_size
    if size > limits.record_bytes:
        return Refused(found or path.name, "read.too_large", f"{size} bytes", 0, size)
    return _record(found or path.name, found, path.read_bytes(), 0, size)


def _record(name: str, identifier: str | None, content: bytes, offset: int, length: int) -> Record:
    url = f"https://arxiv.org/abs/{identifier}" if identifier else None
    return Record(name, content, CONTENT_TYPE, offset, length, url=url)
