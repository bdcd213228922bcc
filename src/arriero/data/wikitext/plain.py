"""Wikitext to plain text in one pass over its brackets: no links, templates, tables, references, captions.

Section titles stay as lines, list items as lines that begin with "- ", formulas as LaTeX between dollar signs.
"""

from __future__ import annotations

import html
import re

from arriero.data.wikitext.names import BOILERPLATE_SECTIONS, DROPPED_NAMESPACES, LANGUAGE_CODES, LITERATURE
from arriero.data.wikitext.regions import Regions
from arriero.data.wikitext.templates import text_of

_BRACKETS = re.compile(r"\{\{|\}\}|\[\[|\]\]|^[ \t:*#;]*\{\|(?!\|)|^[ \t]*\|\}(?!\})", re.MULTILINE)
_PIPE = "\x04"
"""A pipe in the text of something nested, which separates no arguments."""
_EXTERNAL = re.compile(
    r"\[(?:https?:|ftp:|mailto:|news:|irc:)?//[^\s\]\[]*(?:[ \t]+([^\]\[\n]{0,2000}))?\]|\[mailto:[^\s\]\[]*[ \t]*([^\]\[\n]{0,2000})\]"
)
_QUOTES = re.compile(r"'{5}|'{2,3}")
_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|small|big|sub|sup|span|div|center|font|tt|code|var|p|blockquote|abbr|cite|del|ins|kbd|samp|"
    r"ref|references|h[1-6]|li|ul|ol|dl|dt|dd|table|tr|td|th|tbody|caption|noinclude|onlyinclude|poem|nowiki|ruby|rt|rp|rb|"
    r"bdi|bdo|q|dfn|strike|wbr|hr|section|mark|data|time|gallery|math|pre|includeonly|templatestyles|timeline)\b[^<>]{0,1000}>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\b[^<>]{0,100}>", re.IGNORECASE)
_RAISED = re.compile(r"<(su[bp])\b[^<>]{0,100}>([0-9+\-−n]{1,12})</\1>", re.IGNORECASE)
_RAISE = {
    "sup": str.maketrans("0123456789+-−n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻ⁿ"),
    "sub": str.maketrans("0123456789+-−n", "₀₁₂₃₄₅₆₇₈₉₊₋₋ₙ"),
}
_SWITCH = re.compile(r"__[A-Z_]{3,30}__")
_VARIANT = re.compile(r"-\{([^{}]*)\}-")
_HEADING = re.compile(r"^(={1,6})[ \t]*([^\n]*?)[ \t]*={1,6}$")
_EMPTY_BRACKETS = re.compile(r"[ \t]*\([ \t,;:–—-]*\)|[ \t]*（[，；、\s]*）")
_BRACKET_START = re.compile(r"\([ \t]*[,;:][ \t,;:]*")
_SPACES = re.compile(r"[ \t\xa0\u2002-\u200b\u202f]+")
_COMMAS = re.compile(r",(?:\s?,)+")
_BEFORE_MARK = re.compile(r" ([,.;:!?)])(?=\s|$)")
_DEPTH = 200


def plain_text(source: str) -> str:
    """The prose of a page's wikitext. Never raises on any text; time grows with its length only."""
    regions = Regions()
    text = _resolve_brackets(regions.hide(source))
    text = _inline(text.replace(_PIPE, "|"))
    return regions.show(_lines(text)).strip()


def _resolve_brackets(text: str) -> str:
    """Templates, links and tables by what they leave; brackets that nothing closes are dropped, and their text kept."""
    frames: list[tuple[str, list[str]]] = []
    parts: list[str] = []
    position = 0
    for found in _BRACKETS.finditer(text):
        mark = found[0].strip(" \t:*#;")
        parts.append(text[position : found.start()])
        position = found.end()
        if mark in ("{{", "[[", "{|"):
            if len(frames) < _DEPTH:
                frames.append((mark, parts))
                parts = []
            continue
        opening = {"}}": "{{", "]]": "[[", "|}": "{|"}[mark]
        if not _closes(frames, opening):
            continue
        while frames:
            opened, outer = frames.pop()
            inner = "".join(parts)
            parts = outer
            if opened == opening:
                parts.append(_RESOLVE[opened](inner).replace("|", _PIPE))
                break
            parts.append(_unclosed(opened, inner))
    parts.append(text[position:])
    while frames:
        inner = "".join(parts)
        opened, parts = frames.pop()
        parts.append(_unclosed(opened, inner))
    return "".join(parts)


def _unclosed(opened: str, inner: str) -> str:
    """Text after a bracket that nothing closes; a table's first line holds its attributes."""
    return inner.partition("\n")[2] if opened == "{|" else inner


def _closes(frames: list[tuple[str, list[str]]], opening: str) -> bool:
    """Whether a closing bracket has an opening one; one of a link or table does not reach out of a template."""
    for opened, _ in reversed(frames[-20:]):
        if opened == opening:
            return True
        if opened == "{{" or opening == "[[":
            return False
    return False


def _template(inner: str) -> str:
    name, *parts = inner.split("|")
    return text_of(name, parts)


def _link(inner: str) -> str:
    target, bar, label = inner.partition("|")
    shown = target.strip().startswith(":")
    target = target.strip().lstrip(":")
    space, colon, rest = target.partition(":")
    if colon and not shown:
        name = space.strip().lower()
        if name in DROPPED_NAMESPACES or (name in LANGUAGE_CODES and not bar):
            return ""
    if not bar:
        return target.lstrip("#")
    if not label.strip():
        return (rest if colon else target).partition("(")[0].partition(",")[0].strip()
    return label.rpartition("|")[2] if "|" in label else label


def _table(inner: str) -> str:
    return ""


_RESOLVE = {"{{": _template, "[[": _link, "{|": _table}


def _inline(text: str) -> str:
    """Mark-up within lines."""
    if "''" in text:
        text = _QUOTES.sub("", text)
    if "//" in text or "[mailto" in text:
        text = _EXTERNAL.sub(lambda found: found[1] or found[2] or "", text)
    if "<" in text:
        text = _RAISED.sub(lambda found: found[2].translate(_RAISE[found[1].lower()]), text)
        text = _TAG.sub("", _BREAK.sub("\n", text))
    if "-{" in text:
        text = _VARIANT.sub(_chosen_variant, text)
    if "__" in text:
        text = _SWITCH.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    text = _SPACES.sub(" ", text)
    if "(" in text or "（" in text:
        text = _BRACKET_START.sub("(", _EMPTY_BRACKETS.sub("", text))
    return _COMMAS.sub(",", _BEFORE_MARK.sub(r"\1", text))


def _chosen_variant(found: re.Match[str]) -> str:
    """Chinese: ``-{zh-hans:..;zh-hant:..}-``: the first form."""
    first = found[1].partition(";")[0]
    return first.rpartition(":")[2].rpartition("|")[2].strip()


def _lines(text: str) -> str:
    """Section titles, lists and blank lines; sections without prose and titles with nothing below them are dropped."""
    kept: list[str] = []
    pending: list[tuple[int, str]] = []
    dropping = 0
    for line in text.split("\n"):
        line = line.strip()
        heading = _HEADING.match(line) if line[:1] == "=" else None
        if heading is not None and heading[2].strip("= "):
            level, title = len(heading[1]), heading[2].strip("= ")
            if dropping and level > dropping:
                continue
            dropping = level if _has_no_prose(title.lower(), level) else 0
            pending = [entry for entry in pending if entry[0] < level]
            if not dropping:
                pending.append((level, title))
            continue
        if dropping:
            continue
        line = _line(line)
        if line:
            for _, title in pending:
                kept += ["", title, ""]
            pending = []
            kept.append(line)
        elif kept and kept[-1]:
            kept.append("")
    return "\n".join(_single_blanks(kept))


def _has_no_prose(title: str, level: int) -> bool:
    return title in BOILERPLATE_SECTIONS and (level <= 2 or title not in LITERATURE)


def _line(line: str) -> str:
    first = line[:1]
    if first in ("*", "#"):
        rest = line.lstrip("*#:; ")
        return f"- {rest}" if rest else ""
    if first in (":", ";"):
        return line.lstrip("*#:; ")
    if first == "|" or (line.startswith(("!|", "! ", "{|", "----")) and ("|" in line or first == "-")):
        return ""
    return line if any(character.isalnum() or character == "\x02" for character in line) else ""


def _single_blanks(lines: list[str]) -> list[str]:
    return [line for place, line in enumerate(lines) if line or (place and lines[place - 1])]
