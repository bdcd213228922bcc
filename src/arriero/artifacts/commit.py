"""Writing whole or not at all: temporary sibling, fsync, rename."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arriero.errors import ArrieroError

PARTIAL = ".partial"


def fsync_path(path: Path) -> None:
    """Force a file or a folder entry to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, and a crash leaves one of the two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def write_json_atomic(path: Path, value: Any) -> None:
    """:func:`write_bytes_atomic` of indented JSON."""
    write_bytes_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below ``folder``, and the folder itself."""
    for root, _, files in os.walk(folder):
        for name in files:
            fsync_path(Path(root) / name)
        fsync_path(Path(root))


def commit_folder(partial: Path, final: Path) -> None:
    """Make ``partial`` appear as ``final`` in one step, durably.

    Raises:
        ArrieroError: ``final`` exists; a finished artifact is never overwritten.
    """
    if final.exists():
        raise ArrieroError(f"{final} exists already; nothing was overwritten")
    sync_tree(partial)
    partial.rename(final)
    fsync_path(final.parent)


def link_atomic(link: Path, target: Path) -> None:
    """Point the symbolic link ``link`` at ``target`` (relative), replacing an older link in one step."""
    if link.exists() and not link.is_symlink():
        raise ArrieroError(f"{link} is in the way: Arriero wants to put a link there")
    temporary = link.with_name(f".{link.name}.{os.getpid()}{PARTIAL}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    temporary.replace(link)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """An empty folder at ``path`` that is removed again when the body fails."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True)
    try:
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
