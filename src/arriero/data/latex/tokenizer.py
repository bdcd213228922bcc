"""TeX's eyes (The TeXbook, chapters 7 and 8): source text to tokens, with the categories of characters that matter.

Unlike TeX's own, these tokens keep their spelling, so that text without macros comes out as it went in. Comments are
dropped here by TeX's rule: from the sign to the line's end, with the line's end and the next line's indentation; the
character before the sign is never touched. What TeX reads without categories (``\\verb``, ``verbatim``, ``\\url``)
is one token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from typing import NamedTuple

CONTROL, BEGIN, END, PARAMETER, SPACE, PARAGRAPH, TEXT, OTHER, VERBATIM, RESOLVED, UNDEFINED = range(11)
"""Kinds. RESOLVED is a control sequence in its built-in meaning, whatever a document has made of its name;
UNDEFINED is xparse's mark for an argument that was not given."""


class Token(NamedTuple):
    """``text`` is the name without backslash for CONTROL and RESOLVED, else the characters themselves; ``gap`` is
    the space after a control word, which TeX swallows with it."""

    kind: int
    text: str
    gap: str = ""


BEGIN_GROUP, END_GROUP = Token(BEGIN, "{"), Token(END, "}")
NO_VALUE = Token(UNDEFINED, "")

VERBATIM_COMMANDS = frozenset({"verb", "lstinline", "url", "nolinkurl", "path", "href"})
"""Commands whose argument is read without categories, unless a document defines them otherwise."""
_VERBATIM_ENVIRONMENTS = "verbatim|Verbatim|BVerbatim|LVerbatim|lstlisting|minted|filecontents|comment"
_PATTERN = r"""
  (?P<verbatim>\\begin[ \t]*\{(?P<environment>(?:%(environments)s)\*?)\})
| (?P<inline>\\(?:verb|lstinline)(?![%(letters)s])\*?)
| (?P<address>\\(?:url|nolinkurl|path|href)[ \t]*(?=\{))
| \\(?P<word>[%(letters)s]+)(?P<gap>[ \t]*(?:\n(?![ \t]*\n)[ \t]*)?)
| \\(?P<symbol>.)
| (?P<comment>%%[^\n]*(?:\n[ \t]*)?)
| (?P<paragraph>[ \t]*\n[ \t]*\n\s*)
| (?P<space>[ \t]*\n[ \t]*|[ \t]+)
| (?P<text>[^\\{}%%$&#~^_\s\[\]*=]+)
| (?P<other>\$\$|.)
"""


def _pattern(letters: str) -> re.Pattern[str]:
    parts = {"environments": _VERBATIM_ENVIRONMENTS, "letters": letters}
    return re.compile(_PATTERN % parts, re.VERBOSE | re.DOTALL)


_DOCUMENT = _pattern("A-Za-z")
_PACKAGE = _pattern("A-Za-z@")
_EXPL3 = _pattern("A-Za-z@_:")
_OPTION = re.compile(r"\[[^\]\n]*\]")
_PLAIN = re.compile(r"[^\\{}%#$]+")
_ADDRESS = re.compile(r"\{[^{}]{0,2000}(?:\{[^{}]{0,500}\}[^{}]{0,2000}){0,9}\}")
"""A percent sign or # in it is a character; one level of braces may be in it."""
_SINGLE = {"{": Token(BEGIN, "{"), "}": Token(END, "}"), "#": Token(PARAMETER, "#")}


class Lexer:
    """Tokens of one file, read one at a time, for macros change how the rest is read (``\\makeatletter``)."""

    def __init__(self, text: str, ordinary: Set[str] = frozenset()) -> None:
        """``ordinary``: of :data:`VERBATIM_COMMANDS` those that are macros here; it may grow while the file is read."""
        self._ordinary = ordinary
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.position = 0
        self._match = _DOCUMENT.match

    def at_is_letter(self, yes: bool) -> None:
        """``\\makeatletter`` and ``\\makeatother``."""
        self._match = (_PACKAGE if yes else _DOCUMENT).match

    def expl3(self, yes: bool) -> None:
        """``\\ExplSyntaxOn`` and ``\\ExplSyntaxOff``."""
        self._match = (_EXPL3 if yes else _DOCUMENT).match

    def plain(self) -> str:
        """Characters up to the next one that a macro, a group, a comment or a formula could begin with."""
        found = _PLAIN.match(self.text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found.group()

    def next(self) -> Token | None:
        """The next token; None at the end of the file."""
        while found := self._match(self.text, self.position):
            self.position = found.end()
            kind = found.lastgroup
            value = found.group()
            if kind == "text":
                return Token(TEXT, value)
            if kind == "gap":
                return Token(CONTROL, found["word"], found["gap"])
            if kind == "space":
                return Token(SPACE, value)
            if kind == "other":
                return _SINGLE.get(value) or Token(OTHER, value)
            if kind == "symbol":
                return Token(CONTROL, value[1:])
            if kind == "paragraph":
                return Token(PARAGRAPH, value)
            if kind == "comment":
                if value[-1] != "%" and self.text.startswith("\n", self.position) and "\n" in value:
                    return Token(PARAGRAPH, self._blank_lines())
                continue
            token = self._without_categories(found)
            if token is not None:
                return token
        return None

    def _blank_lines(self) -> str:
        """A comment's line was followed by blank ones: they end the paragraph."""
        start = self.position
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return "\n" + self.text[start : self.position]

    def _without_categories(self, found: re.Match[str]) -> Token | None:
        """What TeX reads verbatim, to its end; None for what leaves nothing (the environment ``comment``)."""
        start, position = found.start(), found.end()
        command = found.group()[1:].rstrip("* \t")
        if command in self._ordinary:
            self.position = start + 1 + len(command)
            return Token(CONTROL, command)
        if found["verbatim"]:
            name = found["environment"]
            end = self.text.find(f"\\end{{{name}}}", position)
            self.position = len(self.text) if end < 0 else end + len(name) + 6
            return None if name == "comment" else Token(VERBATIM, self.text[start : self.position])
        if found["inline"]:
            option = _OPTION.match(self.text, position)
            position = option.end() if option else position
            mark = self.text[position : position + 1]
            line = self.text.find("\n", position, position + 2000)
            last = position + 2000 if line < 0 else line
            end = self.text.find("}" if mark == "{" else mark, position + 1, last) if mark.strip() else -1
            if end < 0:
                return Token(CONTROL, command)
            self.position = end + 1
            return Token(VERBATIM, self.text[start : self.position])
        address = _ADDRESS.match(self.text, position)
        if address is None:
            return Token(CONTROL, command)
        self.position = address.end()
        return Token(VERBATIM, self.text[start : self.position])


def tokenize(text: str, at_is_letter: bool = False) -> list[Token]:
    """All tokens of a text whose categories do not change."""
    lexer = Lexer(text)
    lexer.at_is_letter(at_is_letter)
    return list(iter(lexer.next, None))


def is_word(name: str) -> bool:
    """Whether a control sequence of this name swallows the spaces after it."""
    return name[:1].isalpha() or (name[:1] == "@" and len(name) > 1)


def render(tokens: Iterable[Token]) -> str:
    """Source text of tokens: a control word is kept apart from a letter that follows it."""
    parts: list[str] = []
    after_word = False
    for kind, text, gap in tokens:
        if kind in (CONTROL, RESOLVED):
            parts.append("\\" + text + gap)
            after_word = not gap and is_word(text)
        elif text:
            if after_word and text[0].isascii() and text[0].isalpha():
                parts.append(" ")
            parts.append(text)
            after_word = False
    return "".join(parts)
