"""What Project Gutenberg puts before and behind a book, in the forms it has used since 1991.

Written from the markers that c-w/gutenberg (and before it J. Krugel's strip_headers) collected; here they are
patterns anchored to whole lines, so that a book which speaks of Project Gutenberg is not cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_WORK = r"(?:project\s+gutenberg|gutenberg\s+project|projekt\s+gutenberg)"
_BOOK = r"(?:\s*(?:'s|tm|™|\(tm\)))?(?:[\s-]*(?:australia|of australia|canada|self-publishing)?\s*e[\s-]?(?:book|text)s?)?"

_START = re.compile(
    rf"^[ \t]*(?:\*+[ \t]*(?:start|begin(?:ning)?)\s+of\s+(?:this\s+|the\s+)?(?:copyrighted\s+)?{_WORK}{_BOOK}"
    rf"|(?:start|begin(?:ning)?)\s+of\s+(?:this\s+|the\s+)(?:copyrighted\s+)?{_WORK}{_BOOK}"
    r"|\*+[ \t]*end[ \t]*\*?[ \t]*the\s+small\s+print"
    r"|\*end\*|<<this electronic version of)"
    r"[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    rf"^[ \t]*(?:\*+[ \t]*end\s+of\s+(?:this\s+|the\s+)?(?:copyrighted\s+)?{_WORK}{_BOOK}"
    rf"|end\s+of\s+(?:this\s+|the\s+)?{_WORK}{_BOOK}"
    rf"|(?:ende\s+dieses|ende\s+diese|fin\s+d[eu](?:\s+ce)?|fine\s+di(?:\s+questo)?|fin\s+de(?:\s+este)?"
    rf"|loppu|einde\s+van(?:\s+dit)?)\s+{_WORK}{_BOOK}"
    r"|ende\s+dieses\s+etextes"
    r"|end\s+of\s+this\s+is\s+copyrighted"
    r"|\**this\s+is\s+a\s+copyrighted\s+project\s+gutenberg\s+e(?:book|text),\s+details\s+above"
    r"|\**[ \t]*start:\s+full\s+license|the\s+full\s+project\s+gutenberg\s+license\s*$"
    r"|more\s+information\s+about\s+this\s+book\s+is\s+at\s+the\s+top\s+of\s+this\s+file"
    r"|\**we\s+need\s+your\s+donations\s+more\s+than\s+ever)"
    r"[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_FIRST_LINE = re.compile(
    rf"\A\W*(?:the\s+)?{_WORK}(?:'s)?\b|\A\W*this\s+(?:e[\s-]?(?:book|text)|file)\s+(?:is\s+for\s+the\s+use|was)",
    re.IGNORECASE,
)
_HEADER_PARAGRAPH = re.compile(
    rf"{_WORK}(?:'s|-tm|™)?\s+(?:e-?(?:book|text)|license|edition|literary|volunteers|is a)|gutenberg\.(?:org|net)"
    r"|e-?(?:book|text)s?\b.{0,60}\b(?:use of anyone|prepared|produced|copyright)|^\**these e-?(?:book|text)s"
    r"|^(?:title|author|translator|illustrator|editor|release date|posting date|last updated|language"
    r"|character set encoding|credits|original publication|edition|first posted)\s*:"
    r"|^\W*information about project|small print|\bcopyright laws are changing\b|\[e-?(?:book|text) ?#",
    re.IGNORECASE | re.DOTALL | re.MULTILINE,
)
_CREDIT = re.compile(
    r"^\W{0,3}(?:produced by|e-?text (?:was )?(?:prepared|produced|scanned) by"
    r"|this e-?(?:text|book) was (?:prepared|produced|created|scanned|transcribed|converted)"
    r"|this project gutenberg e-?(?:text|book) was prepared by|(?:scanned|transcribed|prepared|typed|proofed) (?:by|from)\b"
    r"|(?:digitized|digitised) by|html version by|credits:)|distributed proofread|proofreading team"
    r"|internet archive[/)]|generously made available|pgdp\.net|\[transcriber'?s?'? notes?:?",
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"^[ \t]*(Title|Author|Language|Release Date|Posting Date|Character set encoding):[ \t]*(.+)$",
    re.MULTILINE,
)
_HEAD_CHARACTERS = 60_000
_MOST_CREDITS, _LONGEST_CREDIT = 12, 2500
_PARAGRAPH = re.compile(r"\s*([^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*)")
_LINE = re.compile(r"\s*([^\n]*\S[^\n]*)\n")
_BLANK = re.compile(r"(?:[ \t]*\n)*")


@dataclass(frozen=True)
class Frame:
    """Where the book stands in a text (characters), and what its header says. ``found``: any of it is Gutenberg's."""

    start: int
    end: int
    found: bool = False
    is_copyrighted: bool = False
    fields: dict[str, str] = field(default_factory=dict)


def frame(text: str) -> Frame:
    """Find the book in a text with "\\n" line ends."""
    start, end = _start(text), len(text)
    found = _END.search(text, start)
    if found:
        end = found.start()
    if start == 0 and not found:
        return Frame(0, len(text))
    head = text[:start]
    fields = {name.lower(): " ".join(value.split()) for name, value in _FIELD.findall(head)}
    is_copyrighted = bool(
        re.search(r"copyrighted\s+project\s+gutenberg", head + text[end : end + 400], re.IGNORECASE)
    )
    start = _behind_credits(text, start, end)
    return Frame(start, max(start, _before_end(text, start, end)), True, is_copyrighted, fields)


def _start(text: str) -> int:
    """Behind the header; 0 without one."""
    head = text[:_HEAD_CHARACTERS]
    behind = 0
    for found in _START.finditer(head):
        behind = _end_of_marker(text, found)
    if behind:
        return behind
    return _behind_paragraphs(head) if _FIRST_LINE.search(head[:2000].lstrip("\ufeff")) else 0


def _end_of_marker(text: str, found: re.Match[str]) -> int:
    """Behind a marker's line, or behind the lines on to "***" where its title runs over the line's end."""
    line = found[0].rstrip()
    if line.lstrip().startswith("*") and not line.endswith("*") and "small print" not in line.lower():
        closing = re.compile(r"[^\n]*\n(?:[^\n]+\n){0,3}?[^\n]*\*{2,}[ \t]*(?:\n|\Z)").match(
            text, found.start()
        )
        if closing:
            return closing.end()
    return min(found.end() + 1, len(text))


def _behind_paragraphs(head: str) -> int:
    """Behind the last of the opening paragraphs that is of the header; for headers without an end marker."""
    behind = position = misses = 0
    for paragraph in re.finditer(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*\n*", head):
        is_header = position == 0 or _HEADER_PARAGRAPH.search(paragraph[0]) or _CREDIT.search(paragraph[0])
        if is_header and len(paragraph[0]) > 3000:
            behind = max(behind, position + _behind_lines(paragraph[0]))
            break
        if is_header:
            behind, misses = paragraph.end(), 0
        else:
            misses += 1
        position = paragraph.end()
        if misses > 3:
            break
    return behind


def _behind_lines(block: str) -> int:
    """The same by lines, in a text without empty lines."""
    behind = position = misses = 0
    for line in block.split("\n"):
        position += len(line) + 1
        if _HEADER_PARAGRAPH.search(line) or _CREDIT.search(line) or _TERMS.search(line):
            behind, misses = position, 0
        else:
            misses += 1
        if misses > 3:
            break
    return min(behind, len(block))


_TERMS = re.compile(
    r"anyone anywhere|no restrictions whatsoever|copy it, give it away|included with this", re.IGNORECASE
)


def _behind_credits(text: str, start: int, end: int) -> int:
    """Behind the credits that follow the header: who produced, scanned or proofread the text. Whole paragraphs, or
    lines where the text has no empty ones."""
    unit = _PARAGRAPH if "\n\n" in text[:start] else _LINE
    for _ in range(_MOST_CREDITS):
        found = unit.match(text, start, end)
        if not found or len(found[1]) > _LONGEST_CREDIT or not _CREDIT.search(found[1]):
            break
        start = found.end()
    blank = _BLANK.match(text, start, end)
    return blank.end() if blank else start


def _before_end(text: str, start: int, end: int) -> int:
    """Before the white space and rules of stars that precede the end marker."""
    body = text[start:end]
    return start + len(re.sub(r"[\s*]+\Z", "", body[-2000:])) + max(0, len(body) - 2000)
