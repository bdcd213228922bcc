"""From the texts of pages to one text: running heads and feet out, words joined that a line's end cut."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

_DIGITS = re.compile(r"\d+")
_ROMAN = re.compile(r"\b[ivxlc]{1,7}\b")
_SPACE = re.compile(r"\s+")
_NUMBER_ONLY = re.compile(
    r"\W*(?:page\s*)?(?:\d{1,5}|[ivxlc]{1,7})(?:\s*(?:of|/)\s*\d{1,5})?\W*", re.IGNORECASE
)
_HYPHENATED = re.compile(r"(\w*[a-zà-öø-ÿ])(?:\u00ad|[-\u2010])\n[ \t]*([a-zà-öø-ÿ]\w*)")
_SENTENCE_END = (".", "!", "?", ":", '"', "”", "’", ")", "。", "！", "？")
_EDGE_LINES = 3
_FEWEST_PAGES = 3
_NUMBERED = 0.3
"""Share of pages whose numbers must count for a line with a number to be taken for a page's head or foot."""
_LONGEST_HEAD = 120


class PdfSettings(BaseModel):
    """Bounds on one PDF, and what is cut from its text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pages: int = Field(default=3000, ge=1, description="files with more pages are refused")
    max_characters: int = Field(
        default=20_000_000, ge=1, description="files with more text than this are refused"
    )
    max_seconds: float = Field(
        default=60.0, gt=0, description="time after which the process that reads the file is killed"
    )
    max_memory_mib: int = Field(
        default=2048, ge=256, description="most memory of the process that reads the file, in MiB"
    )
    running_heads: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="a first or last line that stands on this share of the pages is cut",
    )
    hyphens: bool = Field(default=True, description="join words that a hyphen cuts at the end of a line")
    unwrap: bool = Field(default=True, description="join the lines of a paragraph")


def pages_text(pages: Sequence[str], settings: PdfSettings) -> str:
    """One text of all pages.

    A paragraph that goes on over a page's end is joined where its line does not end a sentence and the next page goes
    on in lower case.
    """
    bodies = [_lines(page) for page in pages]
    bodies = without_running_lines(bodies, settings.running_heads)
    text = ""
    for lines in bodies:
        body = "\n".join(lines).strip("\n")
        if not body:
            continue
        goes_on = text and body[0].islower() and not text.endswith(_SENTENCE_END)
        text += ("\n" if goes_on else "\n\n" if text else "") + body
    if settings.hyphens:
        text = join_hyphens(text)
    return unwrapped(text) if settings.unwrap else text


def without_running_lines(pages: Sequence[list[str]], share: float) -> list[list[str]]:
    """Pages without lines that stand at the same edge of at least ``share`` of them (and of three), numbers aside,
    and without lines at an edge that begin or end with the page's number."""
    bodies = [list(page) for page in pages]
    filled = sum(1 for page in bodies if page)
    if filled < _FEWEST_PAGES:
        return bodies
    least = max(_FEWEST_PAGES, share * filled)
    _cut_numbered(bodies, max(_FEWEST_PAGES, _NUMBERED * filled))
    for edge in (0, -1):
        for _ in range(_EDGE_LINES):
            counted = Counter(_key(page[edge]) for page in bodies if page)
            if not counted or max(counted.values()) < least:
                break
            repeated = {key for key, count in counted.items() if count >= least}
            for page in bodies:
                if page and _key(page[edge]) in repeated:
                    page.pop(edge)
                    while page and not page[edge].strip():
                        page.pop(edge)
    return bodies


def _cut_numbered(pages: Sequence[list[str]], least: float) -> None:
    """Cut lines at the edges whose number counts with the pages, as a head or foot with a page number does."""
    for edge in (0, -1):
        numbers = [_numbers(page[edge]) if page else set() for page in pages]
        ahead = Counter(number - at for at, found in enumerate(numbers) for number in found)
        counting = {by for by, count in ahead.items() if count >= least}
        for at, (page, found) in enumerate(zip(pages, numbers, strict=True)):
            if any(number - at in counting for number in found):
                page.pop(edge)


def _numbers(line: str) -> set[int]:
    """The number that a short line begins with and the one that it ends with."""
    words = line.split()
    edges = (words[0], words[-1]) if words and len(line) <= _LONGEST_HEAD else ()
    return {int(word) for word in edges if word.isascii() and word.isdigit() and len(word) <= 5}


def join_hyphens(text: str) -> str:
    """Words that a hyphen and a line's end cut in two, joined; the hyphen stays where the text elsewhere writes the
    word with it and nowhere without."""
    words = Counter(re.findall(r"\w+(?:-\w+)*", text.lower()))

    def joined(found: re.Match[str]) -> str:
        first, second = found[1], found[2]
        with_hyphen, without = f"{first}-{second}".lower(), (first + second).lower()
        keeps = words[with_hyphen] > 0 and words[without] == 0
        return f"{first}-{second}" if keeps else first + second

    return _HYPHENATED.sub(joined, text)


def unwrapped(text: str) -> str:
    """Lines joined to paragraphs: a line goes on in the next unless it ends a sentence well before the usual length,
    or one of the two is blank, short or a list item."""
    lines = text.split("\n")
    lengths = sorted(len(line) for line in lines if line.strip())
    if not lengths:
        return ""
    usual = lengths[int(0.8 * (len(lengths) - 1))]
    out = [lines[0]]
    for before, line in itertools.pairwise(lines):
        if _goes_on(before, line, usual):
            out[-1] = out[-1].rstrip() + " " + line.lstrip()
        else:
            out.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip("\n")


def _goes_on(before: str, line: str, usual: int) -> bool:
    if (
        not before.strip()
        or not line.strip()
        or re.match(r"\s*(?:[•▪‣◦*–-]\s|\(?(?:\d{1,3}|[a-z])[.)]\s)", line)
    ):
        return False
    if line.lstrip()[0].islower():
        return len(before) >= 0.3 * usual
    return len(before) >= 0.8 * usual and not before.rstrip().endswith(_SENTENCE_END[:3])


def _lines(page: str) -> list[str]:
    """Lines without white space at their ends; none at the page's edges is blank."""
    lines = [line.rstrip() for line in page.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _key(line: str) -> str:
    """A line as a running head repeats it: numbers as one sign."""
    if _NUMBER_ONLY.fullmatch(line):
        return "#"
    return _SPACE.sub(" ", _ROMAN.sub("#", _DIGITS.sub("#", line.lower()))).strip()
