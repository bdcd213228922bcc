"""The short notices at the top of source files ("Licensed under the Apache License, Version 2.0")."""

from __future__ import annotations

import re

from arriero.data.licenses.words import words

_PHRASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), id)
    for pattern, id in (
        (r"\bapache (?:software )?license (?:version )?2(?: 0)?\b", "Apache-2.0"),
        (r"\bapache org licenses license 2 0\b", "Apache-2.0"),
        (r"\b(?:under|of) the (?:terms of the )?(?:mit|expat)(?: x11)? license\b", "MIT"),
        (r"\bopensource org licenses mit(?: license)?\b", "MIT"),
        (r"^mit license\b|\bmit licensed\b|\blicense mit\b", "MIT"),
        (r"\bmozilla public license (?:v |version )?2 0\b", "MPL-2.0"),
        (r"\bmozilla public license (?:v |version )?1 1\b", "MPL-1.1"),
        (r"\bboost software license (?:version )?1 0\b", "BSL-1.0"),
        (r"\beclipse public license (?:v |version |v)?2 0\b", "EPL-2.0"),
        (r"\beclipse public license (?:v |version |v)?1 0\b", "EPL-1.0"),
        (r"\bcommon development and distribution license\b", "CDDL-1.0"),
        (r"\bdo what the f\w* you want to public license\b", "WTFPL"),
        (r"\bisc license\b", "ISC"),
        (r"\bunlicense org\b", "Unlicense"),
        (r"\bcreativecommons org publicdomain zero 1 0\b|\bcc0 1 0\b", "CC0-1.0"),
        (r"\bcreativecommons org licenses by sa 4 0\b", "CC-BY-SA-4.0"),
        (r"\bcreativecommons org licenses by sa 3 0\b", "CC-BY-SA-3.0"),
        (r"\bcreativecommons org licenses by nc\b", "CC-BY-NC-4.0"),
        (r"\bcreativecommons org licenses by 4 0\b", "CC-BY-4.0"),
        (r"\bbusiness source license 1 1\b", "BUSL-1.1"),
        (r"\bserver side public license\b", "SSPL-1.0"),
        (
            r"\bunauthori[sz]ed copying of this file\b|\bproprietary and confidential\b",
            "LicenseRef-Proprietary",
        ),
        (r"\bconfidential and proprietary\b|\btrade secrets? of\b", "LicenseRef-Proprietary"),
    )
)
_GNU = re.compile(
    r"\bgnu (?P<kind>affero general|lesser general|library general|general) public license\b(?P<rest>.{0,200})"
)
_NUMBER = re.compile(r"\bv(?:ersion)? ?([123])(?: ([01]))?\b")
_LATER = re.compile(r"\bany later version\b|\bor later\b|\bor newer\b")
_FAMILY = {"affero general": "AGPL", "lesser general": "LGPL", "library general": "LGPL", "general": "GPL"}


def noticed(header: str) -> list[str]:
    """Licences that a header says the file is under, each once, in alphabetical order.

    A notice that only points at a file ("a BSD-style license that can be found in the LICENSE file") names none.
    """
    text = " ".join(words(header))
    found = {id for pattern, id in _PHRASES if pattern.search(text)}
    return sorted(found | _gnu(text))


def _gnu(text: str) -> set[str]:
    """GNU licences with their number where the sentence gives one; the longest statement counts."""
    found: dict[str, str] = {}
    for match in _GNU.finditer(text):
        family = _FAMILY[match["kind"]]
        before = text[max(0, match.start() - 80) : match.start()]
        stated = _NUMBER.search(match["rest"][:90]) or _NUMBER.search(before)
        if stated is None:
            found.setdefault(family, f"LicenseRef-{family}")
            continue
        number = f"{stated[1]}.{stated[2] or '0'}"
        later = "-or-later" if _LATER.search(match["rest"]) or _LATER.search(before) else ""
        if found.get(family, "LicenseRef").startswith("LicenseRef"):
            found[family] = f"{family}-{number}{later}"
    return set(found.values())
