"""The licence of a Wikimedia project's text, by the project and the date: what its terms of use said then."""

from __future__ import annotations

import re
from typing import NamedTuple

_CC3, _CC4, _GFDL = "CC-BY-SA-3.0", "CC-BY-SA-4.0", "GFDL-1.3-or-later"
_SINCE_CC4, _SINCE_CC3 = "2023-06-07", "2009-06-15"
"""Terms of use of these days: CC BY-SA 4.0; CC BY-SA 3.0 beside the GFDL, which alone had been there before."""
_FILE_DATE = re.compile(r"-(20\d\d)(\d\d)(\d\d)-")
_FILE_PROJECT = re.compile(
    r"^[a-z_]{2,20}?(wiki|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage|wikinews)[-_.]"
)
_PROJECT = re.compile(
    r"^https?://(?:[a-z0-9-]+\.)?"
    r"(wikipedia|wiktionary|wikibooks|wikiquote|wikisource|wikiversity|wikivoyage|wikinews|wikidata)\.org/"
)
_GENERATOR = re.compile(rb"<generator>MediaWiki 1\.(\d{1,3})\b")
_BEFORE, _AFTER = 40, 42
"""MediaWiki 1.40 and older ran before June 2023, 1.42 and newer after."""


class WikiLicense(NamedTuple):
    """SPDX expression and where it comes from; None: the source's own."""

    license: str | None
    evidence: str | None


class Dump(NamedTuple):
    """What decides on the licence of a dump's pages."""

    project: str | None
    """wikipedia, wiktionary, ...; None: none of Wikimedia's."""
    date: str | None
    """Day of the dump, or a day that lies on the same side of the change; None: unknown."""
    where: str
    """How the date is known."""


def dump_of(file: str, head: bytes, base: str | None) -> Dump:
    """Of a dump by its file's name, its first bytes and the address of its pages.

    A file that names neither a project nor an address is taken for Wikipedia.
    """
    named = _FILE_PROJECT.match(file)
    if base is None:
        project = ("wikipedia" if named[1] == "wiki" else named[1]) if named else "wikipedia"
    else:
        found = _PROJECT.match(base)
        project = found[1] if found else None
    day = _FILE_DATE.search(file)
    if day:
        return Dump(project, "-".join(day.groups()), "the dump's date")
    generator = _GENERATOR.search(head)
    release = int(generator[1]) if generator else 0
    if generator and not _BEFORE < release < _AFTER:
        day_of = "2023-01-01" if release <= _BEFORE else "2024-01-01"
        return Dump(project, day_of, f"MediaWiki 1.{release} made the dump")
    return Dump(project, None, "")


def license_of(dump: Dump, edited: str | None) -> WikiLicense:
    """The licence of a page.

    Args:
        edited: time of the page's revision, which decides where nobody knows when the dump was made: what was saved
            under CC BY-SA 3.0 stays so.
    """
    if dump.project is None:
        return WikiLicense(None, None)
    date, where = (dump.date, dump.where) if dump.date else ((edited or "")[:10], "the revision's date")
    license = _license(dump.project, date)
    reason = f"terms of use of {dump.project}"
    return WikiLicense(license, f"declared: {reason}, by {where} {date}" if date else f"declared: {reason}")


def _license(project: str, date: str) -> str:
    if project == "wikidata":
        return "CC0-1.0"
    if project == "wikinews":
        return "CC-BY-2.5"
    if not date or date >= _SINCE_CC4:
        return _CC4
    if project == "wikivoyage":
        return _CC3
    return f"{_CC3} OR {_GFDL}" if date >= _SINCE_CC3 else "GFDL-1.2-or-later"
