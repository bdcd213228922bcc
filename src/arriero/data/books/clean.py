"""What a book's transcription adds to the book: marks of pictures and pages, a table of contents."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

_ILLUSTRATION = re.compile(
    r"\[(?:illustration|frontispiece|ilustraci[oó]n|abbildung)\b[^\[\]]{0,3000}\]", re.IGNORECASE
)
_PAGE = re.compile(
    r"[ \t]*(?:\[(?:pg|page)\.?[ \t]*[\divxlc]{1,6}\]|\{(?:pg[ \t]*)?\d{1,4}\})", re.IGNORECASE
)
_CONTENTS = re.compile(
    r"^[ \t_*=#]*(?:table of )?contents(?: of (?:the )?volume[^\n]{0,20})?[.:]?[ \t_*=]*$",
    re.IGNORECASE | re.MULTILINE,
)
_ENTRY = re.compile(
    r"^\s*(?:(?:chapter|chap\.|book|part|volume|act|scene|letter|section|canto|stave|preface|introduction|prologue"
    r"|epilogue|conclusion|appendix|index|notes?|glossary|page)\b.{0,120}|[IVXLCDM]{1,8}[.:)]?(?:\s.{0,120})?"
    r"|\d{1,3}[.:)]?(?:\s.{0,120})?|.{1,120}?(?:[. ]{2,}|\s)[\divxlc]{1,5}\.?)\s*$",
    re.IGNORECASE,
)
_MOST_CONTENTS = 400
_GAP = re.compile(r"\n{4,}")


class BookSettings(BaseModel):
    """What is cut out of a book's text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gutenberg: bool = Field(default=True, description="cut Project Gutenberg's header, credits and footer")
    illustrations: bool = Field(default=True, description="cut marks of pictures: [Illustration: ...]")
    page_marks: bool = Field(default=True, description="cut marks of pages: [Pg 12], {12}")
    contents: bool = Field(default=False, description="cut the table of contents")
    min_characters: int = Field(default=1, ge=1, description="refuse books with less text than this")


def clean_book(text: str, settings: BookSettings) -> str:
    """The text without what the settings name; at most three line feeds in a row remain where something was cut."""
    if settings.contents:
        text = _without_contents(text)
    if settings.illustrations:
        text = _ILLUSTRATION.sub("", text)
    if settings.page_marks:
        text = _PAGE.sub("", text)
    return _GAP.sub("\n\n\n", text).strip("\n")


def _without_contents(text: str) -> str:
    """The text without the first list under a heading "Contents" that has at least three entries."""
    found = _CONTENTS.search(text, 0, 200_000)
    if not found:
        return text
    end, position, entries, blanks, others = found.end(), found.end() + 1, 0, 0, 0
    for line in text[position : position + 100_000].split("\n")[:_MOST_CONTENTS]:
        position += len(line) + 1
        if not line.strip():
            blanks += 1
            if blanks >= 3 and entries >= 3:
                break
            continue
        if not _ENTRY.match(line):
            others += 1
            if others > 2 or blanks >= 2:
                break
            blanks = 0
            continue
        entries, blanks, others = entries + 1, 0, 0
        end = position - 1
    return text[: found.start()] + text[min(end, len(text)) :] if entries >= 3 else text
