"""Licence headers at the top of source files, as edits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from arriero.data.records import Edit

HeaderStyle = Literal["license", "redpajama", "none"]

REASON = "code.license_header"
EXTRACTOR = "code "
"""What the extractor of source code calls itself, before its version."""
_C_COMMENT = re.compile(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*+/")
_COPYRIGHT = re.compile("copyright", re.IGNORECASE)
_LEGAL = re.compile(
    r"copyright|\(c\) *\d|©|SPDX-|licen[sc]e|redistribut|all rights reserved|permission is hereby|proprietary",
    re.IGNORECASE,
)
_LINE_MARKS = ("//", "#", "--", ";", "%", '"', "'", "!", "REM ", "rem ", "dnl ")
_DIRECTIVES = re.compile(
    r"#\s*(?:!|include|define|if|ifdef|ifndef|elif|else|endif|undef|pragma|error|line|import|region|nullable|r\b|load)"
    r"|#.{0,20}coding[:=]|#\[|#!\[|//go:|// ?\+build|//!|///|\"\"\"|'use strict'|\"use strict\""
)
_BLOCKS = (
    ("/*", "*/"),
    ("<!--", "-->"),
    ('"""', '"""'),
    ("'''", "'''"),
    ("(*", "*)"),
    ("{-", "-}"),
    ("=begin", "=end"),
)
_TOP_LINES = 100
_LONGEST = 50_000


class LicenseHeaderEditor:
    """Cuts licence headers off source code; texts that another extractor made stay as they are.

    ``license``: each of the comments at the top, with its lines, that speaks of copyright or a licence; shebangs,
    encoding lines and preprocessor lines stay. ``redpajama``: what RedPajama v1 does: all leading lines that begin
    with //, # or -- (an #include too) and empty ones, then the first C comment in the first 100 lines if it says
    "copyright".
    """

    def __init__(self, style: HeaderStyle = "license") -> None:
        self._style = style

    def edits(self, text: str, columns: Mapping[str, Any]) -> list[Edit]:
        """Edits of a text whose ledger column ``extractor`` names the one for code."""
        if self._style == "none" or not str(columns.get("extractor", "")).startswith(EXTRACTOR):
            return []
        return license_headers(text) if self._style == "license" else redpajama_headers(text)


def redpajama_headers(text: str) -> list[Edit]:
    """The same cuts as clean_copyright_comments in data_prep/github/github_clean_dedup_local.py of RedPajama v1."""
    start = 0
    while start < len(text):
        stop = text.find("\n", start)
        line = text[start:] if stop < 0 else text[start:stop]
        if line and not line.lstrip().startswith(("//", "#", "--")):
            break
        start = len(text) if stop < 0 else stop + 1
    edits = [Edit(0, start, "", REASON)] if start else []
    end = start
    for _ in range(_TOP_LINES):
        end = text.find("\n", end) + 1
        if not end:
            break
    top = text[start : end - 1] if end else text[start:]
    found = _C_COMMENT.search(top)
    if found and _COPYRIGHT.search(found[0]):
        edits.append(Edit(start + found.start(), start + found.end(), "", REASON))
    return edits


def license_headers(text: str) -> list[Edit]:
    """The comments at the top that speak of copyright or a licence, each with the empty lines behind it."""
    edits: list[Edit] = []
    position = 0
    for _ in range(8):
        position = _skip_kept(text, position)
        end = _comment_end(text, position)
        if end is None:
            break
        if _is_legal(text, position, end):
            last = _end_of_blank(text, end)
            if edits and edits[-1].end == position:
                edits[-1] = Edit(edits[-1].start, last, "", REASON)
            else:
                edits.append(Edit(position, last, "", REASON))
            end = last
        position = end
    return edits


def _is_legal(text: str, start: int, end: int) -> bool:
    """Whether a comment is there for the law; of a documentation string the first lines decide."""
    block = text[start:end].lstrip()
    if block.startswith(('"""', "'''")):
        block = "\n".join(block[3:].lstrip().split("\n", 2)[:2])
    return bool(_LEGAL.search(block))


def _skip_kept(text: str, position: int) -> int:
    """Behind empty lines and lines that look like comments and are none (#!, #include, coding)."""
    while position < len(text):
        stop = text.find("\n", position)
        line = text[position : len(text) if stop < 0 else stop]
        stripped = line.strip("\ufeff \t\r")
        is_kept = not stripped or (_DIRECTIVES.match(stripped) and not stripped.startswith(('"""', "'''")))
        is_kept = is_kept or stripped.startswith(("<?xml", "<!DOCTYPE", "<?php", "package ", "@echo"))
        if not is_kept or stop < 0:
            break
        position = stop + 1
    return position


def _comment_end(text: str, position: int) -> int | None:
    """Where the comment that begins here ends, its line feed included; None when there is none."""
    start = position
    while start < len(text) and text[start] in " \t\ufeff":
        start += 1
    for opening, closing in _BLOCKS:
        if text.startswith(opening, start):
            found = text.find(closing, start + len(opening), start + _LONGEST)
            if found < 0:
                return None
            stop = text.find("\n", found)
            behind = text[found + len(closing) : len(text) if stop < 0 else stop]
            return None if behind.strip() else len(text) if stop < 0 else stop + 1
    mark = next((mark for mark in _LINE_MARKS if text.startswith(mark, start)), None)
    return _lines_end(text, position, mark) if mark else None


def _lines_end(text: str, position: int, mark: str) -> int | None:
    """Where a run of lines that begin with a mark ends."""
    end = position
    while end < len(text) and end - position < _LONGEST:
        stop = text.find("\n", end)
        line = text[end : len(text) if stop < 0 else stop].strip("\ufeff \t\r")
        is_code = mark in ('"', "'") and not line.startswith(mark + " ") and line != mark
        if not line.startswith(mark.strip()) or _DIRECTIVES.match(line) or is_code:
            break
        end = len(text) if stop < 0 else stop + 1
    return end if end > position else None


def _end_of_blank(text: str, position: int) -> int:
    """Behind the empty lines that begin here."""
    while position < len(text):
        stop = text.find("\n", position)
        if stop < 0 or text[position:stop].strip():
            break
        position = stop + 1
    return position
