"""SPDX licence expressions (``MIT OR Apache-2.0``), and the names by which people call licences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

_MOST_CHARACTERS, _DEEPEST = 2000, 16
_TOKEN = re.compile(r"\s*(\(|\)|[A-Za-z0-9][A-Za-z0-9.:+-]*)")


@dataclass(frozen=True)
class Expression:
    """A licence, or several joined by AND or OR."""

    operator: Literal["", "AND", "OR"]
    id: str = ""
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        if not self.operator:
            return self.id
        return f" {self.operator} ".join(f"({part})" if part.operator else str(part) for part in self.parts)

    def ids(self) -> set[str]:
        """All licences that are named, without exceptions."""
        if not self.operator:
            return {self.id.split(" WITH ")[0]}
        return set().union(*(part.ids() for part in self.parts))

    def allows(self, is_allowed: Callable[[str], bool]) -> bool:
        """Whether allowed licences suffice: all of an AND, one of an OR. An exception (WITH) only ever allows more."""
        if not self.operator:
            return is_allowed(self.id.split(" WITH ")[0])
        return (all if self.operator == "AND" else any)(part.allows(is_allowed) for part in self.parts)


def parse(text: str) -> Expression | None:
    """The expression; None when the text is none (or is longer or deeper than any that means something)."""
    if len(text) > _MOST_CHARACTERS:
        return None
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        found = _TOKEN.match(stripped, position)
        if found is None:
            return None
        tokens.append(found[1])
        position = found.end()
    parser = _Parser(tokens)
    tree = parser.alternatives(0)
    return tree if tree is not None and parser.is_done() else None


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at = tokens, 0

    def is_done(self) -> bool:
        return self._at == len(self._tokens)

    def alternatives(self, depth: int) -> Expression | None:
        return self._joined("OR", depth)

    def _joined(self, operator: Literal["AND", "OR"], depth: int) -> Expression | None:
        parts = []
        while True:
            part = self._joined("AND", depth) if operator == "OR" else self._one(depth)
            if part is None:
                return None
            parts.append(part)
            if not self._takes(operator):
                return parts[0] if len(parts) == 1 else join(operator, parts)

    def _one(self, depth: int) -> Expression | None:
        if self._takes("("):
            inner = self.alternatives(depth + 1) if depth < _DEEPEST else None
            return inner if inner is not None and self._takes(")") else None
        word = self._word()
        if word is None:
            return None
        id = known_id(word) or word
        if self._takes("WITH"):
            exception = self._word()
            return Expression("", f"{id} WITH {exception}") if exception else None
        return Expression("", id)

    def _takes(self, word: str) -> bool:
        is_next = self._at < len(self._tokens) and self._tokens[self._at].upper() == word
        self._at += is_next
        return is_next

    def _word(self) -> str | None:
        if self._at >= len(self._tokens) or self._tokens[self._at].upper() in ("(", ")", "AND", "OR", "WITH"):
            return None
        self._at += 1
        return self._tokens[self._at - 1]


def join(operator: Literal["AND", "OR"], parts: Iterable[Expression]) -> Expression:
    """Different licences joined, each once, in order; one alone stays alone."""
    flat: list[Expression] = []
    for part in parts:
        flat += [one for one in (part.parts if part.operator == operator else (part,)) if one not in flat]
    return flat[0] if len(flat) == 1 else Expression(operator, "", tuple(flat))


_IDS = [
    "0BSD",
    "AFL-3.0",
    "AGPL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-1.0",
    "Apache-1.1",
    "Apache-2.0",
    "Artistic-1.0",
    "Artistic-2.0",
    "BlueOak-1.0.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSD-4-Clause",
    "BSL-1.0",
    "BUSL-1.1",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDDL-1.0",
    "CDDL-1.1",
    "CPL-1.0",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GFDL-1.2",
    "GFDL-1.3",
    "GPL-1.0",
    "GPL-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "HPND",
    "ISC",
    "JSON",
    "LGPL-2.0",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-1.0",
    "MPL-1.1",
    "MPL-2.0",
    "MS-PL",
    "MulanPSL-2.0",
    "NCSA",
    "NTP",
    "ODbL-1.0",
    "OFL-1.1",
    "OpenSSL",
    "OSL-3.0",
    "PHP-3.01",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Ruby",
    "SSPL-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "UPL-1.0",
    "Vim",
    "W3C",
    "WTFPL",
    "X11",
    "Zlib",
    "ZPL-2.1",
]
_BY_LOWER = {id.lower(): id for id in _IDS}

_NAMES = {
    "mit": "MIT", "expat": "MIT", "mit x11": "MIT", "x11 mit": "MIT",
    "apache": "Apache-2.0", "apache 2": "Apache-2.0", "apache 2.0": "Apache-2.0", "asl 2.0": "Apache-2.0",
    "apache software": "Apache-2.0", "apache software 2.0": "Apache-2.0", "apache2": "Apache-2.0",
    "bsd": "LicenseRef-BSD", "bsd style": "LicenseRef-BSD", "new bsd": "BSD-3-Clause", "modified bsd": "BSD-3-Clause",
    "revised bsd": "BSD-3-Clause", "bsd 3 clause": "BSD-3-Clause", "3 clause bsd": "BSD-3-Clause",
    "bsd 3": "BSD-3-Clause", "bsd 2 clause": "BSD-2-Clause", "2 clause bsd": "BSD-2-Clause", "bsd 2": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause", "freebsd": "BSD-2-Clause", "isc": "ISC", "iscl": "ISC", "zlib": "Zlib",
    "zlib libpng": "Zlib", "boost 1.0": "BSL-1.0", "boost software 1.0": "BSL-1.0",
    "boost software": "BSL-1.0", "boost": "BSL-1.0", "mpl 2.0": "MPL-2.0", "mozilla public 2.0": "MPL-2.0",
    "mpl2": "MPL-2.0", "mozilla public 1.1": "MPL-1.1", "mpl": "LicenseRef-MPL", "epl 2.0": "EPL-2.0",
    "eclipse public 2.0": "EPL-2.0", "epl 1.0": "EPL-1.0", "eclipse public 1.0": "EPL-1.0",
    "python software foundation": "PSF-2.0", "psf": "PSF-2.0", "psfl": "PSF-2.0", "unlicense": "Unlicense",
    "public domain": "LicenseRef-public-domain", "cc0": "CC0-1.0", "cc0 1.0": "CC0-1.0",
    "cc0 1.0 universal": "CC0-1.0", "wtfpl": "WTFPL", "university of illinois ncsa open source": "NCSA",
    "proprietary": "LicenseRef-Proprietary", "unlicensed": "LicenseRef-Proprietary",
    "commercial": "LicenseRef-Proprietary", "all rights reserved": "LicenseRef-Proprietary",
    "other proprietary": "LicenseRef-Proprietary", "private": "LicenseRef-Proprietary",
    "gpl": "LicenseRef-GPL", "lgpl": "LicenseRef-LGPL", "agpl": "LicenseRef-AGPL",
}  # fmt: skip
_GNU = re.compile(
    r"(?:gnu )?(?P<kind>affero general public|lesser general public|library general public|general public"
    r"|library or lesser general public|agpl|lgpl|gpl)(?: (?:agpl|lgpl|gpl))? ?(?P<number>[123](?:\.[01])?)?"
    r"(?P<rest>.*)"
)


def known_id(name: str) -> str | None:
    """The identifier in its own spelling; ``GPL-3.0+`` as ``GPL-3.0-or-later``; None for one that is not listed."""
    base = name.removesuffix("+")
    found = _BY_LOWER.get(base.lower())
    if found is None or base == name:
        return found
    return found.removesuffix("-or-later") + "-or-later" if "GPL" in found else found


def license_named(name: str) -> Expression | None:
    """The licence that somebody's words name ("Apache License, Version 2.0", "GPLv3+", "MIT/Apache-2.0").

    None: the words name no licence that is known. "BSD" without a number is ``LicenseRef-BSD``.
    """
    name = " ".join(name[:_MOST_CHARACTERS].split())
    parsed = parse(name)
    if parsed is not None and parsed.ids() <= set(_IDS):
        return parsed
    one = _one_named(name)
    if one:
        return Expression("", one)
    for separator, operator in ((r"\s+or\s+|\s*\|+\s*|\s*/\s*", "OR"), (r"\s+and\s+|\s*[&,;]\s*", "AND")):
        parts = [part for part in re.split(separator, name, flags=re.IGNORECASE) if part]
        if 1 < len(parts) <= 8:
            named = [license_named(part) for part in parts]
            if all(named):
                return join("OR" if operator == "OR" else "AND", [part for part in named if part])
    return None


def _one_named(name: str) -> str | None:
    listed = known_id(name)
    if listed:
        return listed
    key = re.sub(r"\([^()]*\)", " ", name.lower()) if not name.startswith("(") else name.lower()
    key = re.sub(r"([a-z])v(?:ersion)?\.?\s?(\d)", r"\1 \2", key)
    key = re.sub(r"\b(?:the|licen[sc]es?|version|v(?=[\s\d.])|osi approved)\b|\bv(?=\d)", " ", key)
    key = " ".join(re.sub(r"[^a-z0-9.+]+", " ", key).split()).strip(".")
    if key in _NAMES:
        return _NAMES[key]
    found = _GNU.fullmatch(key)
    if found:
        return _gnu(found["kind"], found["number"], found["rest"] + (" later" if "+)" in name else ""))
    return None


def _gnu(kind: str, number: str | None, rest: str) -> str | None:
    affero, lesser = kind.startswith(("affero", "agpl")), kind.startswith(("lesser", "library", "lgpl"))
    family = "AGPL" if affero else "LGPL" if lesser else "GPL"
    if number is None:
        return f"LicenseRef-{family}"
    version = number if "." in number else f"{number}.0"
    later = (
        "-or-later"
        if "later" in rest or "+" in rest or "newer" in rest
        else "-only"
        if "only" in rest
        else ""
    )
    return f"{family}-{version}{later}"
