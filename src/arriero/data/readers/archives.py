"""Archives of documents: each file in a .zip or .tar is one record, or one refusal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.readers.sources import Problem, refusal
from arriero.data.records import Limits, Record, Refused
from arriero.data.sourcetree.members import Member, archive_members


class ArchiveReader:
    """Reads .zip and .tar, the latter also as .gz, .bz2, .xz and .zst; nothing is unpacked to disk.

    Of pages (.html), texts (.txt, .md, .rst, no ending) and .tex files records are made; a member of another kind, an
    archive inside the archive among them, is refused with ``read.member_type``.
    """

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        return [(0, None)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        if start > 0:
            return
        for member in archive_members(path, 0, None, limits, lambda name: True):
            yield _record(path, member)


def _record(path: Path, member: Member) -> Record | Refused:
    name = member.path.encode("utf-8", "backslashreplace").decode()
    id = f"{path.name}:{name}" if name else f"{path.name}:{member.offset}"
    where = (member.offset, member.length, member.in_content)
    if member.content is None:
        return refusal(id, Problem(member.problem, member.detail), where)
    kind = content_type_of(member.path)
    if kind is None:
        return refusal(id, Problem("read.member_type", f"no documents are read from {name[-80:]!r}"), where)
    return Record(id, member.content, kind, *where, meta={"member": name})


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
