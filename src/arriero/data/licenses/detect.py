"""The licence of one file: its own tag or header, else what the nearest folder above says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from arriero.data.licenses.match import match
from arriero.data.licenses.metadata import declared, is_metadata
from arriero.data.licenses.notices import noticed
from arriero.data.licenses.spdx import Expression, join, license_named, parse

HEAD_CHARACTERS = 16_000
_HEAD_LINES = 80
MOST_BYTES = 1 << 19
"""Larger files are not taken for licence files."""

_TAG = re.compile(
    r"^[^\w\n]{0,12}(?:rem\s+|dnl\s+)?SPDX-License-Identifier:[ \t]*([^\n]{1,300})",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSER = re.compile(r"\s*(?:\*+/|--+>|-->|\"\"\"|'''|\*\)|#\}|\*+)\s*$")
_TRIGGER = re.compile(
    r"licen[sc]|permission|redistribut|copying|proprietary|trade secret|public domain", re.IGNORECASE
)
_LICENSE_FILE = re.compile(
    r"(?:un)?licen[sc]es?(?:[-_.].*)?|copying(?:[-_.].*)?|(?:mit|apache|bsd|gpl|lgpl)[-_.]licen[sc]e.*",
    re.IGNORECASE,
)
_CODE = re.compile(
    r".*\.(?:py|pyi|pyc|js|ts|tsx|jsx|c|h|cc|cpp|hpp|java|go|rs|rb|php|cs|json|ya?ml|toml|html?|css|sh)"
)

Basis = Literal["tag", "text", "declared", "unknown"]


@dataclass(frozen=True)
class Found:
    """A licence (None: unknown) and how it is known: ``tag: SPDX-License-Identifier``, ``text: MIT in src/LICENSE``."""

    license: Expression | None
    basis: Basis
    where: str

    @property
    def evidence(self) -> str:
        return f"{self.basis}: {self.where}"


UNKNOWN = Found(None, "unknown", "no tag, header, licence file or metadata")


def of_header(text: str) -> Found | None:
    """What a file says of itself in its first 80 lines; None when it says nothing.

    A tag counts before a licence's text, a text before a notice.
    """
    head = "\n".join(text[:HEAD_CHARACTERS].split("\n", _HEAD_LINES)[:_HEAD_LINES])
    tagged = [_tagged(value) for value in _TAG.findall(head)]
    if tagged:
        return Found(join("AND", tagged), "tag", "SPDX-License-Identifier")
    if not _TRIGGER.search(head):
        return None
    ids = [one.id for one in match(head)] or noticed(head)
    if not ids:
        return None
    return Found(_all_of(ids), "text", f"{', '.join(ids)} in the file's header")


def _tagged(value: str) -> Expression:
    cleaned = _CLOSER.sub("", value).strip()
    return parse(cleaned) or license_named(cleaned) or Expression("", "LicenseRef-unreadable-tag")


def _all_of(ids: Sequence[str]) -> Expression:
    return join("AND", [Expression("", id) for id in ids])


def is_license_file(name: str) -> bool:
    """Whether a file of this name is there to hold a licence."""
    return bool(_LICENSE_FILE.fullmatch(name)) and not _CODE.fullmatch(name.lower())


def is_evidence(name: str) -> bool:
    """Whether a file of this name may tell the licence of its neighbours."""
    return is_license_file(name) or is_metadata(name)


class LicenseTree:
    """Licences of folders. ``evidence``: for each folder ("" is the root, "a/b" below it) the names of its files for
    which :func:`is_evidence` holds; ``read``: a file's content by its path, None when it cannot be had; ``above``: what
    holds where nothing in the tree says anything."""

    def __init__(
        self,
        evidence: Mapping[str, Sequence[str]],
        read: Callable[[str], bytes | None],
        above: Found = UNKNOWN,
    ) -> None:
        self._evidence, self._read, self._above = evidence, read, above
        self._known: dict[str, Found | None] = {}

    def of_file(self, path: str, text: str) -> Found:
        """The licence of a file by its path below the root and its text."""
        return of_header(text) or self.of_folder(path.rpartition("/")[0])

    def of_folder(self, folder: str) -> Found:
        """What the folder, or the nearest one above that says anything, says."""
        while True:
            if folder not in self._known:
                self._known[folder] = self._of(folder)
            found = self._known[folder]
            if found is not None:
                return found
            if not folder:
                return self._above
            folder = folder.rpartition("/")[0]

    def _of(self, folder: str) -> Found | None:
        names = sorted(self._evidence.get(folder, ()))
        paths = [f"{folder}/{name}" if folder else name for name in names]
        texts = [path for path, name in zip(paths, names, strict=True) if is_license_file(name)]
        by_text = {path: self._of_text(path) for path in texts}
        stated = self._stated([path for path, name in zip(paths, names, strict=True) if is_metadata(name)])
        known = {path: ids for path, ids in by_text.items() if ids}
        if known:
            return _together(known, stated)
        if stated:
            return Found(stated[0], "declared", stated[1])
        return Found(None, "unknown", f"{', '.join(texts)} not recognised") if texts else None

    def _of_text(self, path: str) -> list[str]:
        content = self._read(path)
        if content is None or len(content) > MOST_BYTES:
            return []
        text = content.decode("utf-8", "replace")
        return [one.id for one in match(text)] or noticed(text)

    def _stated(self, paths: Sequence[str]) -> tuple[Expression, str] | None:
        for path in paths:
            content = self._read(path)
            expression = declared(path.rpartition("/")[2], content) if content is not None else None
            if expression is not None:
                return expression, path
        return None


def _together(known: Mapping[str, list[str]], stated: tuple[Expression, str] | None) -> Found:
    """Texts with what the metadata declares: where it names these very licences it also says how they are joined
    (OR or AND); where it names others, both count."""
    ids = sorted({id for found in known.values() for id in found})
    where = f"{', '.join(ids)} in {', '.join(known)}"
    texts = _all_of(ids)
    if stated is None:
        return Found(texts, "text", where)
    expression, path = stated
    if {_plain(id) for id in ids} <= {_plain(id) for id in expression.ids()}:
        return Found(expression, "text", f"{where}; {path} declares {expression}")
    return Found(join("AND", [texts, expression]), "text", f"{where}; {path} declares {expression}")


def _plain(id: str) -> str:
    """A licence without "or later", and BSD without its clauses, to compare what people write with texts."""
    id = id.removesuffix("-only").removesuffix("-or-later").removesuffix("+")
    return "BSD" if id == "LicenseRef-BSD" or re.fullmatch(r"BSD-[23]-Clause", id) else id
