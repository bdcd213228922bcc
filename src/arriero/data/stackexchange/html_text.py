"""Posts' HTML as plain text. Stack Exchange serves a small, clean part of HTML; anything else is read as far as it
goes: one pass over the tags with a bounded stack, no recursion, no entity beyond HTML's own characters."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Literal

CodeStyle = Literal["fenced", "indented", "plain"]

_TAG = re.compile(
    r"""<(/?)([A-Za-z][A-Za-z0-9]*)((?:[^<>"']|"[^"<]{0,4000}"|'[^'<]{0,4000}'){0,200}+)>"""
    r"|<(/?)([A-Za-z][A-Za-z0-9]*)([^<>]{0,4000})>"
)
_BLOCKS = frozenset(
    (
        "p",
        "div",
        "blockquote",
        "pre",
        "ul",
        "ol",
        "table",
        "dl",
        "section",
        "article",
        "aside",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
    )
)
_LINES = frozenset(("br", "tr", "li", "dt", "dd", "hr", "summary", "details"))
_SKIPPED = frozenset(("script", "style", "noscript", "iframe", "object", "svg"))
_SPACE = re.compile(r"[ \t\r\n\f]+")


class TooDeepError(ValueError):
    """Lists or quotations lie in each other deeper than the limit."""


class TooManyTagsError(ValueError):
    """More tags than the limit."""


@dataclass(frozen=True)
class _List:
    """An open list or quotation: what stands before its lines."""

    tag: str
    first: str
    rest: str


def html_to_text(
    source: str, code: CodeStyle = "fenced", most_tags: int = 400_000, deepest: int = 512
) -> str:
    """The text of a post: paragraphs apart by an empty line, list items behind "* " or their number, quotations
    behind "> ", code blocks as they are (between fences, or four blanks in), links by their text, pictures left out.

    Raises:
        TooDeepError: more than ``deepest`` open lists and quotations.
        TooManyTagsError: more than ``most_tags`` tags.
    """
    source = _without_comments(source)
    writer = _Writer(code, deepest)
    position = 0
    for tags, found in enumerate(_TAG.finditer(source), 1):
        if found.start() > position:
            writer.text(source[position : found.start()])
        position = found.end()
        if tags > most_tags:
            raise TooManyTagsError(f"more than {most_tags:,} tags")
        name = (found[2] or found[5]).lower()
        (writer.close if found[1] or found[4] else writer.open)(name)
    writer.text(source[position:])
    return writer.result()


def _without_comments(source: str) -> str:
    if "<!--" not in source:
        return source
    kept, position = [], 0
    while (start := source.find("<!--", position)) >= 0 and (end := source.find("-->", start + 4)) >= 0:
        kept.append(source[position:start])
        position = end + 3
    return "".join([*kept, source[position:]])


class _Writer:
    """Collects lines; knows which lists are open."""

    def __init__(self, code: CodeStyle, deepest: int) -> None:
        self._code, self._deepest = code, deepest
        self._lines: list[str] = []
        self._line: list[str] = []
        self._open: list[_List] = []
        self._numbers: list[int] = []
        self._marker: str | None = None
        self._skipped = self._pre = 0
        self._gap = False
        self._block: list[str] = []

    def text(self, raw: str) -> None:
        if self._skipped:
            return
        value = html.unescape(raw) if "&" in raw else raw
        if self._pre:
            self._block.append(value)
        else:
            self._line.append(value)

    def open(self, name: str) -> None:
        if name in _SKIPPED:
            self._skipped += 1
        elif self._pre:
            if name == "pre":
                self._pre += 1
            elif name == "br":
                self._block.append("\n")
        elif name == "pre":
            self._end_line(gap=True)
            self._pre, self._block = 1, []
        elif name in ("ul", "ol", "blockquote"):
            self._end_line(gap=not (self._open and name != "blockquote"))
            self._push(name)
        elif name == "li":
            self._end_line()
            self._start_item()
        elif name == "code" and self._code != "plain":
            self._line.append("`")
        elif name in ("td", "th"):
            self._line.append("\t" if self._line else "")
        elif name in _BLOCKS:
            self._end_line(gap=True)
        elif name in _LINES:
            self._end_line()

    def close(self, name: str) -> None:
        if name in _SKIPPED:
            self._skipped = max(0, self._skipped - 1)
        elif self._pre:
            if name == "pre":
                self._pre -= 1
                if not self._pre:
                    self._end_block()
        elif name in ("ul", "ol", "blockquote"):
            self._end_line()
            self._pop(name)
            self._gap = not self._open or name == "blockquote"
        elif name == "code" and self._code != "plain":
            self._line.append("`")
        elif name in _BLOCKS:
            self._end_line(gap=True)
            self._gap = True
        elif name in _LINES:
            self._end_line()

    def result(self) -> str:
        if self._pre:
            self._end_block()
        self._end_line()
        return "\n".join(self._lines).strip("\n")

    def _push(self, name: str) -> None:
        if len(self._open) >= self._deepest:
            raise TooDeepError(f"more than {self._deepest} lists and quotations in each other")
        mark = {"ul": "* ", "ol": "1. ", "blockquote": "> "}[name]
        self._open.append(_List(name, mark, mark if name == "blockquote" else " " * len(mark)))
        self._numbers.append(0)

    def _pop(self, name: str) -> None:
        for depth in range(len(self._open) - 1, max(-1, len(self._open) - 17), -1):
            if self._open[depth].tag == name:
                del self._open[depth:], self._numbers[depth:]
                return

    def _start_item(self) -> None:
        is_first = self._open and not self._numbers[-1]
        self._gap = self._gap and bool(is_first) and len(self._open) == 1
        if not self._open or self._open[-1].tag == "blockquote":
            self._marker = "* "
            return
        self._numbers[-1] += 1
        one = self._open[-1]
        self._marker = one.first if one.tag == "ul" else f"{self._numbers[-1]}. "

    def _prefix(self, is_text: bool) -> str:
        """What stands before a line: quotation marks and indents of all open lists, the item's mark once."""
        marker = self._marker if is_text else None
        if marker is None:
            return "".join(one.rest for one in self._open)
        self._marker = None
        is_listed = self._open and self._open[-1].tag != "blockquote"
        outer = self._open[:-1] if is_listed else self._open
        return "".join(one.rest for one in outer) + marker

    def _end_line(self, gap: bool = False) -> None:
        line = _SPACE.sub(" ", "".join(self._line)).strip(" ") if self._line else ""
        self._line = []
        if line and line != "``":
            self._put(line)
            self._gap = gap
        elif gap:
            self._gap = bool(self._lines) and (self._marker is None or self._gap)

    def _put(self, line: str) -> None:
        if self._gap and self._lines:
            outer = self._open[:-1] if self._marker else self._open
            self._lines.append("".join(one.rest for one in outer).rstrip())
        self._gap = False
        self._lines.append(self._prefix(True) + line)

    def _end_block(self) -> None:
        code, self._block, self._pre = "".join(self._block).strip("\n"), [], 0
        if not code.strip():
            return
        lines = code.replace("\r\n", "\n").split("\n")
        if self._code == "fenced":
            longest = max((len(run) for run in re.findall(r"`{3,}", code)), default=2)
            fence = "`" * (longest + 1)
            lines = [fence, *lines, fence]
        elif self._code == "indented":
            lines = ["    " + line if line else line for line in lines]
        for line in lines:
            if line is lines[0]:
                self._put(line)
            else:
                self._lines.append(
                    (self._prefix(False) + line).rstrip() if not line else self._prefix(False) + line
                )
        self._gap = True
