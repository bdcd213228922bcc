"""One form for every text: NFC, line feeds, no control characters, no trailing spaces."""

from __future__ import annotations

import re
import unicodedata

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\u2028\u2029]")
"""What the two above look for: hardly any text has it."""
_SPACES = " \t\u00a0"
_ENDS = tuple(f"{space}\n" for space in _SPACES)


def normalise(text: str) -> str:
    """The text in Unicode's form NFC, with ``\\n`` as the only line end (vertical tab, form feed, NEL and the
    Unicode separators count as line ends), without control characters but tab and line feed, without BOM, without
    spaces at line ends, and without blank space before and after it. Normalising twice changes nothing.
    """
    if _ODD.search(text):
        text = _LINE_END.sub("\n", text)
        text = _CONTROL.sub("", text)
    text = unicodedata.normalize("NFC", text)
    if any(end in text for end in _ENDS):
        text = "\n".join(line.rstrip(_SPACES) for line in text.split("\n"))
    return text.strip(_SPACES + "\n")
