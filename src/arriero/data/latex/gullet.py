"""TeX's gullet: tokens from files and from expanded macros, and the reading of arguments (The TeXbook, chapter 20)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from arriero.data.latex.tokenizer import (
    BEGIN,
    CONTROL,
    END,
    OTHER,
    PARAGRAPH,
    RESOLVED,
    SPACE,
    TEXT,
    Lexer,
    Token,
)

ARGUMENT_TOKENS = 100_000
"""Most tokens of one argument: a brace that is never closed must not cost a scan of the file at every use."""


class UseError(Exception):
    """A macro is used in a way that does not match its definition, or a file ends in an argument."""


class Gullet:
    """Tokens in the order in which TeX would see them.

    While a call is being followed (``watch``), the tokens that it takes from what lay there before are noted, so that
    the call can be undone.
    """

    def __init__(self) -> None:
        self.waiting: list[Token] = []
        """Tokens to be read before the files, the next one last."""
        self.files: list[Lexer] = []
        self.taken: list[Token] | None = None
        self.base = 0
        self._from_below = False

    def watch(self, first: Token) -> None:
        """Follow the call that ``first``, just read, begins."""
        self.taken, self.base = [first], len(self.waiting)

    @property
    def call_is_over(self) -> bool:
        """All that the call has put back has been read."""
        return len(self.waiting) <= self.base

    def undo(self) -> list[Token]:
        """Put everything back as it was before the call's first token; gives all that the call had taken."""
        taken = self.taken or []
        del self.waiting[self.base :]
        self.taken = None
        return taken

    def next(self) -> Token | None:
        """The next token, not expanded; None at the end of everything."""
        if self.waiting:
            token: Token | None = self.waiting.pop()
            self._from_below = len(self.waiting) < self.base
        else:
            token = None
            while self.files and (token := self.files[-1].next()) is None:
                self.files.pop()
            self._from_below = True
        if self.taken is not None and self._from_below and token is not None:
            self.taken.append(token)
            self.base = len(self.waiting)
        return token

    def unread(self, token: Token) -> None:
        """Take back the last ``next``."""
        self.waiting.append(token)
        if self.taken is not None and self._from_below:
            self.taken.pop()
            self.base = len(self.waiting)

    def push(self, tokens: Sequence[Token]) -> None:
        """``tokens`` are to be read next."""
        self.waiting.extend(reversed(tokens))

    def single(self) -> Token | None:
        """The next token, where a run of ordinary characters is cut after its first."""
        token = self.next()
        if token is not None and token.kind == TEXT and len(token.text) > 1:
            below = self._from_below
            self.waiting.append(Token(TEXT, token.text[1:]))
            if self.taken is not None and below:
                self.taken[-1] = Token(TEXT, token.text[0])
                self.base = len(self.waiting)
            token = Token(TEXT, token.text[0])
            self._from_below = below
        return token

    def peek(self) -> Token | None:
        """The next token that is not a space; spaces before it are dropped."""
        while (token := self.next()) is not None:
            if token.kind != SPACE:
                self.unread(token)
                return token
        return None

    def group(self, long: bool = True) -> list[Token]:
        """Tokens to the brace that closes the one just read.

        Raises:
            UseError: there is none.
        """
        found: list[Token] = []
        depth = 1
        while (token := self.next()) is not None:
            depth += (token.kind == BEGIN) - (token.kind == END)
            if depth == 0:
                return found
            if (token.kind == PARAGRAPH and not long) or len(found) >= ARGUMENT_TOKENS:
                raise UseError("an argument has no end")
            found.append(token)
        raise UseError("the file ends in an argument")

    def argument(self, long: bool = True) -> list[Token]:
        """An undelimited argument: one token or a group, without its braces.

        Raises:
            UseError: there is none.
        """
        self.peek()
        token = self.single()
        if token is None or token.kind in (END, PARAGRAPH):
            raise UseError("an argument is missing")
        return self.group(long) if token.kind == BEGIN else [token]

    def star(self, mark: str = "*") -> bool:
        """Whether ``mark`` comes next; it is read."""
        token = self.peek()
        if token is None or token.text[:1] != mark or token.kind not in (TEXT, OTHER):
            return False
        self.single()
        return True

    def optional(self, opening: str = "[", closing: str = "]") -> list[Token] | None:
        """An argument between marks, None where it is not given.

        Raises:
            UseError: it has no end.
        """
        token = self.peek()
        if opening == "{":
            return self.argument() if token is not None and token.kind == BEGIN else None
        if token is None or token.kind not in (TEXT, OTHER) or token.text[:1] != opening:
            return None
        self.single()
        return self.until(
            [Token(token.kind if closing == opening else _kind(closing), closing)], nest=opening
        )

    def until(self, delimiter: Sequence[Token], long: bool = True, nest: str = "") -> list[Token]:
        """A delimited argument; braces around all of it are dropped. ``nest``: a mark that opens a level of its own.

        Raises:
            UseError: the delimiter does not follow.
        """
        found: list[Token] = []
        depth = inner = 0
        while (token := self.single()) is not None:
            if depth == 0 and inner == 0 and same(token, delimiter[0]) and self._rest(delimiter):
                return _without_braces(found)
            depth += (token.kind == BEGIN) - (token.kind == END)
            if nest and depth == 0 and nest != delimiter[0].text:
                inner += (token.text == nest) - (token.text == delimiter[0].text)
            if depth < 0 or (token.kind == PARAGRAPH and not long) or len(found) >= ARGUMENT_TOKENS:
                raise UseError("an argument's delimiter is missing")
            found.append(token)
        raise UseError("the file ends in an argument")

    def _rest(self, delimiter: Sequence[Token]) -> bool:
        read: list[Token] = []
        for expected in delimiter[1:]:
            token = self.single()
            if token is not None:
                read.append(token)
            if token is None or not same(token, expected):
                self.push(read)
                return False
        return True

    def expect(self, tokens: Iterable[Token]) -> None:
        """Read the text that a definition has before its first parameter.

        Raises:
            UseError: something else is there.
        """
        for expected in tokens:
            token = self.single()
            if token is None or not same(token, expected):
                raise UseError("the use does not match the definition")


def same(first: Token, second: Token) -> bool:
    """Whether two tokens are the same to TeX when it looks for a delimiter."""
    if first.kind == SPACE or second.kind == SPACE:
        return first.kind == second.kind
    if first.kind == RESOLVED:
        first = Token(CONTROL, first.text)
    return first[:2] == second[:2]


def singles(tokens: Iterable[Token]) -> list[Token]:
    """Tokens with every run of characters cut into characters."""
    return [
        piece
        for token in tokens
        for piece in ([Token(TEXT, c) for c in token.text] if token.kind == TEXT else [token])
    ]


def _kind(mark: str) -> int:
    return OTHER if mark in "[]*=" else TEXT


def _without_braces(tokens: list[Token]) -> list[Token]:
    """``{...}`` without its braces where they close each other."""
    if len(tokens) < 2 or tokens[0].kind != BEGIN or tokens[-1].kind != END:
        return tokens
    depth = 0
    for place, token in enumerate(tokens):
        depth += (token.kind == BEGIN) - (token.kind == END)
        if depth == 0 and place < len(tokens) - 1:
            return tokens
    return tokens[1:-1]
