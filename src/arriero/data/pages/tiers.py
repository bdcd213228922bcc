"""Text of a page by the tiers that :class:`arriero.data.extract.ExtractSettings` names. Runs in the child process of
:mod:`arriero.data.extract.watchdog`, so it imports little."""

from __future__ import annotations

import gc
import importlib
import re
from contextlib import suppress
from typing import Any

from arriero.data.pages.trim import trim

_WORD = re.compile(r"\w+")
_FAR_LONGER = 3
"""Trafilatura falls back to all of a page's text when it finds no article; this many times the words of resiliparse's
main content show that."""
_ENOUGH_WORDS = 30
_COLLECT_EVERY = 50_000
"""New objects between two searches for cycles: a page's tree alone is some ten thousand, none of them in a cycle."""


def load(tier: str) -> None:
    """Import what a tier needs.

    Raises:
        ImportError: it is not there, or is broken.
    """
    importlib.import_module("resiliparse.extract.html2text")
    if tier in ("trafilatura", "union"):
        importlib.import_module("trafilatura")
        _spare_lookups()
        gc.freeze()  # what was imported stays anyway
        gc.set_threshold(_COLLECT_EVERY)


def _spare_lookups() -> None:
    """Let trafilatura's parser make elements of one class. lxml asks Python for the class of every element, so that
    forms, inputs and labels get their own, whose methods trafilatura does not use; with this a page costs a tenth less
    and gives the same text."""
    with suppress(ImportError, AttributeError):  # another version of theirs: it works as it is
        from lxml import etree, html
        from trafilatura.utils import HTML_PARSER

        HTML_PARSER.set_element_class_lookup(
            etree.ElementDefaultClassLookup(
                element=html.HtmlElement,
                comment=html.HtmlComment,
                pi=html.HtmlProcessingInstruction,
                entity=html.HtmlEntity,
            )
        )


def page_text(page: str, tier: str, comments: bool, links: bool, trimmed: bool) -> str:
    """The text of an HTML page; empty where none is found."""
    if tier == "all_text":
        return _resiliparse(page, comments, links, main_content=False)
    if tier == "resiliparse":
        return _main_content(page, comments, links, trimmed)
    if tier == "trafilatura":
        return _precise(page, comments, links, trimmed)
    return union(_main_content(page, comments, links, trimmed), _precise(page, comments, links, trimmed))


def _main_content(page: str, comments: bool, links: bool, trimmed: bool) -> str:
    text = _resiliparse(page, comments, links, main_content=True)
    return trim(text, page) if trimmed else text


def _resiliparse(page: str, comments: bool, links: bool, main_content: bool) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        page, main_content=main_content, comments=comments, links=links, alt_texts=False, post_meta=False
    )
    return text.strip()


def _precise(page: str, comments: bool, links: bool, trimmed: bool) -> str:
    text = _trafilatura(page, comments, links)
    if not trimmed:
        return text
    plain = _resiliparse(page, comments, links, main_content=True)
    words = _words(plain)
    if words > _ENOUGH_WORDS and _words(text) > _FAR_LONGER * words:
        text = plain
    return trim(text, page)


def _trafilatura(page: str, comments: bool, links: bool) -> str:
    import trafilatura

    options: dict[str, Any] = {"fast": True, "include_tables": False}
    found: str | None = trafilatura.extract(page, include_comments=comments, include_links=links, **options)
    return found or ""


def _words(text: str) -> int:
    return len(_WORD.findall(text))


def union(first: str, second: str) -> str:
    """``first`` with the lines that only ``second`` has, each after the line it follows there."""
    lines = first.split("\n")
    place: dict[str, int] = {}
    for number, line in enumerate(lines):
        place.setdefault(_key(line), number)
    after: dict[int, list[str]] = {}
    known = "\n".join(_key(line) for line in lines)
    anchor = -1
    for line in second.split("\n"):
        key = _key(line)
        if not key:
            continue
        if key in place:
            anchor = place[key]
        elif key not in known:
            after.setdefault(anchor, []).append(line)
    merged = after.get(-1, [])
    for number, line in enumerate(lines):
        merged = [*merged, line, *after[number]] if number in after else merged
        if number not in after:
            merged.append(line)
    return "\n".join(merged).strip()


def _key(line: str) -> str:
    return "".join(_WORD.findall(line.lower()))
