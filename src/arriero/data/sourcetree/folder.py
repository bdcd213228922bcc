"""Files of a folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from arriero.data.records import Limits
from arriero.data.sourcetree.members import Member, Wanted

_SKIPPED = frozenset((".git", ".hg", ".svn"))
_DEEPEST = 256


def folder_members(
    path: Path, start: int, end: int | None, limits: Limits, wanted: Wanted
) -> Iterator[Member]:
    """Regular files in order of path (by name, folder by folder), without the records of version control. A file's
    place is the sum of the sizes of those before it, each counted one byte larger, so that empty ones have a place."""
    offset = 0
    for name, entry in _walk(path):
        size, problem = _look_at(entry, limits)
        first, offset = offset, offset + size + 1
        if first < start or (end is not None and first >= end):
            continue
        content = None
        if not problem and wanted(name):
            content = _content(Path(entry.path), limits)
            problem = problem if content is not None else ("read.damaged", "cannot be read")
        yield Member(name, first, size, True, content, *(problem or ("", "")))


def folder_starts(path: Path) -> Iterator[int]:
    """Where each file begins, and last where the folder ends; see :func:`folder_members`."""
    offset = 0
    for _, entry in _walk(path):
        yield offset
        offset += 1 + _look_at(entry, Limits())[0]
    yield offset


def _walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path below the root with forward slashes, entry) of everything but folders, depth first, sorted by name."""
    waiting: list[tuple[str, Iterator[os.DirEntry[str]]]] = [("", _entries(root))]
    while waiting:
        prefix, entries = waiting[-1]
        entry = next(entries, None)
        if entry is None:
            waiting.pop()
            continue
        name = prefix + entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED and len(waiting) < _DEEPEST:
                waiting.append((name + "/", _entries(Path(entry.path))))
        else:
            yield name, entry


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return iter(sorted(found, key=lambda entry: entry.name))
    except OSError:
        return iter(())


def _look_at(entry: os.DirEntry[str], limits: Limits) -> tuple[int, tuple[str, str] | None]:
    """(size in bytes, 0 for what is no file; (reason, detail) where it is not to be read)."""
    try:
        state = entry.stat(follow_symlinks=False)
    except OSError as error:
        return 0, ("read.damaged", str(error))
    if stat.S_ISLNK(state.st_mode):
        return 0, ("read.link", "a symbolic link")
    if not stat.S_ISREG(state.st_mode):
        return 0, ("read.not_a_file", "neither a file nor a folder")
    if state.st_size > limits.record_bytes:
        return state.st_size, ("read.record_bytes", f"a file of {state.st_size:,} bytes")
    return state.st_size, None


def _content(file: Path, limits: Limits) -> bytes | None:
    """The content, if the file still is a plain one; what replaced it meanwhile is neither followed nor waited for."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as opened:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return opened.read(limits.record_bytes)
