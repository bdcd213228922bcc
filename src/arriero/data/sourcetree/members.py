"""Files of a folder, a zip or a tar, one after the other; whatever is not a plain file inside of it is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from arriero.data.readers.sources import FileSource
from arriero.data.records import Limits
from arriero.data.sourcetree.unpack import ENDINGS

Wanted = Callable[[str], bool]
"""Whether the content of a member, by its path, is to be read."""

_TAR = re.compile(r".*\.(?:tar(?:\.(?:gz|bz2|xz|zst))?|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_PATH = 4096

_REASONS = {
    "read.path": "read.path_escapes",
    "read.too_large": "read.record_bytes",
    **dict.fromkeys(
        [f"read.{kind}" for kind in ("header", "truncated", "zip", "gzip", "zstd", "bzip2", "xz")],
        "read.damaged",
    ),
}
"""What the ledgers of source trees call it, which do not tell one damage from another."""


@dataclass(frozen=True)
class Member:
    """One member. ``content`` is None where it was not wanted or has a problem.

    ``offset`` and ``length``: bytes of a zip's or a tar's file (its header included; with ``in_content`` of what the
    file unpacks to), for a folder the place in all of its files laid end to end.
    """

    path: str
    offset: int
    length: int
    in_content: bool = False
    content: bytes | None = None
    problem: str = ""
    detail: str = ""


def kind_of(path: Path) -> str:
    """folder, zip, tar or file, by what it is and by its name's ending."""
    if path.is_dir():
        return "folder"
    name = path.name.lower()
    return "tar" if _TAR.match(name) else "zip" if name.endswith((".zip", ".whl", ".jar")) else "file"


def is_packed_tar(path: Path) -> bool:
    """Whether the tar can only be read from its beginning."""
    return path.suffix.lower() in (*ENDINGS, ".tgz", ".tbz", ".tbz2", ".txz", ".tzst")


def members(path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted) -> Iterator[Member]:
    """Members that begin in the range, in the order of their places.

    Links, devices, paths that lead out, encrypted and oversized members have a ``problem``. What is wrong with the
    whole ends the sequence with one member of the path "".
    """
    from arriero.data.sourcetree.folder import folder_members
    from arriero.data.sourcetree.tars import tar_members
    from arriero.data.sourcetree.zips import zip_members

    read = {"folder": folder_members, "zip": zip_members, "tar": tar_members}[kind_of(path)]
    for member in read(path, start, end, limits, wanted):
        yield replace(member, problem=_REASONS.get(member.problem, member.problem))


def archive_members(
    path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted
) -> Iterator[Member]:
    """The same of an archive whatever its name, told by its first bytes; a ``problem`` says what exactly is wrong.

    Raises:
        ArrieroError: the file cannot be opened.
    """
    from arriero.data.sourcetree.tars import tar_members
    from arriero.data.sourcetree.zips import zip_members

    with FileSource(path) as source:
        is_zip = source.read(0, 4) in (b"PK\x03\x04", b"PK\x05\x06")
    yield from (zip_members if is_zip else tar_members)(path, start, end, limits, wanted)


def path_problem(name: str) -> str:
    """Why a member's path is not used; empty when it lies inside."""
    if not name or len(name) > _LONGEST_PATH:
        return "an empty path" if not name else f"a path of {len(name)} characters"
    if name.startswith("/") or _DRIVE.match(name) or "\\" in name:
        return "an absolute path, or one with a drive or backslashes"
    if ".." in name.split("/") or any(ord(character) < 32 for character in name):
        return "a path with .. or control characters"
    return ""
