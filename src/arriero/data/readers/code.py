"""Source code: one record a file of a folder or an archive, with its licence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arriero.data.licenses.detect import HEAD_CHARACTERS, MOST_BYTES, UNKNOWN, Found, LicenseTree, is_evidence
from arriero.data.records import Limits, Record, Refused
from arriero.data.sourcetree.folder import folder_starts
from arriero.data.sourcetree.members import Member, is_packed_tar, kind_of, members

CONTENT_TYPE = "text/x-code"
_EVIDENCE_BYTES = 64 << 20
"""Licence files and metadata of one archive or folder that are kept in memory, all together."""
_MOST_SPLITS = 100_000


class CodeReader:
    """Reads a repository: a folder, a .zip (.whl, .jar), a .tar (.gz, .bz2, .xz, .zst), or one file.

    A record's licence is the file's own (SPDX tag, licence text or notice in its header), else that of the nearest
    folder with a licence file or metadata that declares one. Of a folder, offsets count through all of its files in
    order, each one byte longer than it is. Version control's own folders are passed over.
    """

    folders = True

    def __init__(self, root: Path | str | None = None) -> None:
        """``root``: a folder above the path; licence files and metadata count from there down (default: those in the
        path itself, or in the folder of a single file)."""
        self._root = Path(root) if root else None

    def splits(self, path: Path, split_bytes: int) -> list[tuple[int, int | None]]:
        """Ranges of places of members; one range where they can only be read in order."""
        kind = kind_of(path)
        if kind == "file" or (kind == "tar" and is_packed_tar(path)):
            return [(0, None)]
        if kind == "folder":
            *_, size = folder_starts(path)
        else:
            size = path.stat().st_size
        step = max(split_bytes, -(-size // _MOST_SPLITS), 1)
        if size <= step:
            return [(0, None)]
        return [(start, min(start + step, size)) for start in range(0, size, step)]

    def read(self, path: Path, start: int, end: int | None, limits: Limits) -> Iterator[Record | Refused]:
        """One record a file that begins in the range; links, paths that lead out and the like are refused."""
        try:
            if kind_of(path) == "file":
                yield from self._one_file(path, start, limits)
                return
            tree = _tree_of(members(path, 0, None, limits, _is_evidence_path), self._above(path))
            for member in members(path, start, end, limits, lambda name: True):
                yield _item(member, tree)
        except OSError as error:
            yield Refused("files", "read.damaged", str(error), start, 0)

    def _above(self, path: Path) -> Found:
        """What the folders from the root down to the path say."""
        if self._root is None:
            return UNKNOWN
        root, folder = self._root.resolve(), path.resolve().parent
        if not folder.is_relative_to(root):
            return UNKNOWN
        return _tree_between(root, folder).of_folder(_below(root, folder))

    def _one_file(self, path: Path, start: int, limits: Limits) -> Iterator[Record | Refused]:
        if start > 0:
            return
        root = (self._root or path.parent).resolve()
        own = path.parent.resolve() / path.name
        name = own.relative_to(root).as_posix() if own.is_relative_to(root) else path.name
        size = path.stat().st_size
        if path.is_symlink():
            yield Refused(name, "read.link", "a symbolic link", 0, size)
        elif size > limits.record_bytes:
            yield Refused(name, "read.record_bytes", f"a file of {size:,} bytes", 0, size)
        else:
            tree = _tree_between(root, own.parent)
            yield _item(Member(name, 0, size, False, path.read_bytes()), tree)


def _is_evidence_path(name: str) -> bool:
    return is_evidence(name.rpartition("/")[2])


def _tree_of(found: Iterator[Member], above: Found) -> LicenseTree:
    """The licences of folders, from the members that may tell them."""
    evidence: dict[str, list[str]] = {}
    contents: dict[str, bytes] = {}
    left = _EVIDENCE_BYTES
    for member in found:
        if member.content is None:
            continue
        folder, _, name = member.path.rpartition("/")
        evidence.setdefault(folder, []).append(name)
        if len(member.content) <= min(MOST_BYTES, left):
            contents[member.path] = member.content
            left -= len(member.content)
    return LicenseTree(evidence, contents.get, above)


def _tree_between(root: Path, folder: Path) -> LicenseTree:
    """Licences of the folders from ``root`` down to ``folder``, without what lies beside them."""
    evidence: dict[str, list[str]] = {}
    for one in (folder, *folder.parents):
        if not one.is_relative_to(root):
            break
        files = (file for file in one.iterdir() if is_evidence(file.name))
        evidence[_below(root, one)] = [
            file.name for file in files if file.is_file() and not file.is_symlink()
        ]

    def read(name: str) -> bytes | None:
        with (root / name).open("rb") as file:
            return file.read(MOST_BYTES + 1)

    return LicenseTree(evidence, read)


def _below(root: Path, folder: Path) -> str:
    return "" if folder == root else folder.relative_to(root).as_posix()


def _item(member: Member, tree: LicenseTree) -> Record | Refused:
    id = member.path or "files"
    if member.problem or member.content is None:
        return Refused(id, member.problem, member.detail, member.offset, member.length, member.in_content)
    head = member.content[: 4 * HEAD_CHARACTERS].decode("utf-8", "replace")
    found = tree.of_file(member.path, head)
    return Record(
        id=id,
        content=member.content,
        content_type=CONTENT_TYPE,
        offset=member.offset,
        length=member.length,
        in_content=member.in_content,
        license=str(found.license) if found.license else None,
        license_evidence=found.evidence if found.license else None,
        meta={"path": member.path} | ({} if found.license else {"license": found.evidence}),
    )
