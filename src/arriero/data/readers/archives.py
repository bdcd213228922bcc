"""Archives of documents: each file in a .zip or .tar is one record, or one refusal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.readers.members import Member, content_type_of, is_zip, iter_members
from arriero.data.readers.sources import FileSource, Problem, refusal
from arriero.data.records import Limits, Record, Refused


class ArchiveReader:
    """Reads .zip, .tar, .tar.gz, .tgz and .tar.zst; nothing is unpacked to disk.

    Of pages (.html), texts (.txt, .md, .rst, no ending) and .tex files records are made; a member of another kind, an
    archive inside the archive among them, is refused with ``read.member_type``.
    """

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        return [(0, None)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        if start > 0:
            return
        with FileSource(path) as source:
            in_content = not is_zip(source) and source.read(257, 5) != b"ustar"
            for member in iter_members(source, limits):
                yield _record(path, member, in_content)


def _record(path: Path, member: Member, in_content: bool) -> Record | Refused:
    name = member.name.encode("utf-8", "backslashreplace").decode()
    id = f"{path.name}:{name}" if name else f"{path.name}:{member.offset}"
    where = (member.offset, member.length, in_content)
    if member.problem is not None:
        return refusal(id, member.problem, where)
    kind = content_type_of(member.name)
    if kind is None:
        return refusal(id, Problem("read.member_type", f"no documents are read from {name[-80:]!r}"), where)
    return Record(id, member.data, kind, *where, meta={"member": name})
