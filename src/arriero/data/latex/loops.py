"""Loops by which authors define many macros at once: LaTeX's ``\\@for`` and ``\\@tfor``, etoolbox's list processors."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.data.latex.expander import Expander, Handler
from arriero.data.latex.gullet import UseError, singles
from arriero.data.latex.tokenizer import (
    BEGIN,
    BEGIN_GROUP,
    CONTROL,
    END,
    END_GROUP,
    OTHER,
    RESOLVED,
    SPACE,
    TEXT,
    Token,
)

_COLON, _EQUALS = Token(TEXT, ":"), Token(OTHER, "=")


def _for(expander: Expander, token: Token) -> None:
    """``\\@for\\x:=a,b\\do{body}`` and ``\\@tfor\\x:=ab\\do{body}``."""
    gullet = expander.gullet
    name = gullet.next()
    if name is None or name.kind != CONTROL:
        raise UseError("a loop needs a name")
    gullet.expect([_COLON, _EQUALS])
    listed = gullet.until([Token(CONTROL, "do")])
    body = gullet.argument()
    items = _items(expander.expanded(listed)) if token.text == "@for" else _tokens(listed)
    found: list[Token] = []
    for item in items:
        found += [Token(RESOLVED, "def"), name, BEGIN_GROUP, *item, END_GROUP, *body]
    expander.push(found)


def _list(expander: Expander, token: Token) -> None:
    """``\\forcsvlist{\\x}{a,b}``, and ``\\docsvlist{a,b}`` for ``\\do``."""
    command = expander.gullet.argument() if token.text == "forcsvlist" else [Token(CONTROL, "do")]
    found: list[Token] = []
    for item in _items(expander.gullet.argument()):
        found += [*command, BEGIN_GROUP, *item, END_GROUP]
    expander.push(found)


def _items(tokens: Sequence[Token]) -> list[list[Token]]:
    """Parts between commas outside of braces, without the spaces around them."""
    items: list[list[Token]] = [[]]
    depth = 0
    for token in singles(tokens):
        depth += (token.kind == BEGIN) - (token.kind == END)
        if depth == 0 and token == Token(TEXT, ","):
            items.append([])
        elif token.kind != SPACE or items[-1]:
            items[-1].append(token)
    return [item for item in items if item]


def _tokens(tokens: Sequence[Token]) -> list[list[Token]]:
    items: list[list[Token]] = []
    depth = 0
    for token in singles(tokens):
        if depth == 0 and token.kind == SPACE:
            continue
        if token.kind == END:
            depth -= 1
        if depth == 0 and token.kind not in (BEGIN, END):
            items.append([token])
        elif depth and items:
            items[-1].append(token)
        if token.kind == BEGIN:
            depth += 1
            if depth == 1:
                items.append([])
    return items


LOOPS: dict[str, Handler] = {
    **dict.fromkeys(("@for", "@tfor"), _for),
    **dict.fromkeys(("forcsvlist", "docsvlist"), _list),
}
