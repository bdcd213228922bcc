"""The expansion of an author's macros, in the order in which TeX would read the file.

Expansion is by tokens, as in TeX, so that arguments, optional arguments, nesting, delimited parameters and local
definitions mean what they mean there. What it cannot do (a macro that never ends, that grows without bound, that is
used in a way its definition does not allow, or that needs primitives which are not emulated) is undone: the use stays
as the author wrote it, with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from arriero.data.latex.gullet import Gullet, UseError
from arriero.data.latex.macros import Macro, read_arguments, substitute
from arriero.data.latex.math_mode import MathMode
from arriero.data.latex.tokenizer import (
    BEGIN,
    CONTROL,
    END,
    RESOLVED,
    TEXT,
    UNDEFINED,
    VERBATIM_COMMANDS,
    Lexer,
    Token,
    render,
)

OPAQUE = frozenset(
    [
        "csname",
        "endcsname",
        "expandafter",
        "futurelet",
        "catcode",
        "afterassignment",
        "aftergroup",
        "@ifnextchar",
        "@ifstar",
        "noexpand",
    ]
)
"""A use that leaves one of these is not expanded: its text would be TeX's machinery."""


_NO_CONDITIONS = frozenset(
    [
        "iff",
        "ifthenelse",
        "ifbool",
        "iftoggle",
        "ifdef",
        "ifundef",
        "ifcsundef",
        "ifdefempty",
        "ifdefvoid",
        "ifnumcomp",
        "ifnumequal",
        "ifnumgreater",
        "ifnumless",
        "ifdimcomp",
        "ifinlist",
        "ifstrempty",
        "ifstrequal",
        "ifblank",
        "ifcsdef",
        "ifdefstring",
        "ifdefmacro",
        "ifnumodd",
    ]
)


def is_unknown_condition(name: str) -> bool:
    """Whether a name that nothing defines is a conditional of some package, by how such names are made."""
    return name[:2] == "if" and name not in _NO_CONDITIONS


class Budget(Exception):  # noqa: N818 - a bound was reached, which is no fault of ours
    """A call has used up what it may."""


@dataclass(frozen=True)
class Bounds:
    """What keeps expansion from running for ever; counts, not seconds, so that the result never depends on a clock."""

    call_expansions: int = 5_000
    """Most macros that one use may lead to."""
    call_tokens: int = 100_000
    """Most tokens that one use may make, on top of what it takes."""
    expansions: int = 300_000
    """Most macros expanded in a document."""
    tokens: int = 2_000_000
    """Most tokens that expansion may make in a document."""
    files: int = 500
    """Most files that may be read in."""
    depth: int = 24
    """Deepest nesting of files, and of definitions that are expanded while they are made."""
    misuses: int = 20
    """Uses that do not match its definition after which a macro is left alone."""


@dataclass
class Definition:
    """One definition met: its command, its name, its meaning, and why it is not used, if so."""

    command: str
    name: str
    macro: Macro | None = None
    refused: str = ""


@dataclass
class Expansion:
    """The text and what became of the macros."""

    text: str
    definitions: list[Definition]
    refused: dict[str, str] = field(default_factory=dict)
    """Macros that had a use left as it was written: name to reason."""


Handler = Callable[["Expander", Token], None]


class ReadFile(Protocol):
    def __call__(self, name: str, kind: str) -> str | None:
        """The text of a file named in ``\\input{name}`` or ``\\usepackage{name}`` (kind tex or sty)."""


class Expander:
    """One document's expansion. ``handlers``: what control sequences that are no macros do."""

    def __init__(
        self, handlers: dict[str, Handler], read_file: ReadFile | None = None, bounds: Bounds = Bounds()
    ):
        self.handlers, self.read_file, self.bounds = handlers, read_file, bounds
        self.gullet = Gullet()
        self.out: list[Token] = []
        self.table: dict[str, Macro] = {}
        self.scopes: list[list[tuple[str, Macro | None]]] = []
        self.definitions: list[Definition] = []
        self.refused: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.conditions: list[bool] = []
        """Open conditionals: whether they were decided (their ``\\else`` and ``\\fi`` are then swallowed)."""
        self.switches: set[str] = set()
        self.ordinary: set[str] = set()
        """Commands that the tokenizer would read verbatim, which the document has defined otherwise."""
        self.math = MathMode()
        self.environments: list[tuple[str, list[list[Token]]]] = []
        self.global_next = False
        self.files_read = 0
        self._misused: Counter[str] = Counter()
        self._expansions = self._tokens = self._depth = 0
        self._call: tuple[Token, int, int, int] | None = None
        self._start = (0, 0)

    def expand(self, text: str) -> Expansion:
        """The document with its macros expanded. Never raises on any text."""
        self.gullet.files.append(Lexer(text, self.ordinary))
        self._run()
        return Expansion(render(self.out), self.definitions, {**self.left, **self.refused})

    def _run(self) -> None:
        while True:
            if self._call is not None and self.gullet.call_is_over:
                self._finish()
            if self._call is None:
                self._copy_plain_text()
            token = self.gullet.next()
            if token is None:
                return
            try:
                self.step(token)
            except UseError as error:
                self._undo(str(error), final=False)
            except Budget as error:
                self._undo(str(error), final=True)

    def _copy_plain_text(self) -> None:
        """Text that no macro can look at needs no tokens."""
        if self.gullet.waiting or not self.gullet.files:
            return
        text = self.gullet.files[-1].plain()
        if text:
            self.out.append(Token(TEXT, text))
            if "\n\n" in text:
                self.math.on = False

    def step(self, token: Token) -> None:
        """Do what one token asks for."""
        kind, name = token.kind, token.text
        if kind in (CONTROL, RESOLVED):
            macro = self.table.get(name) if kind == CONTROL and name not in self.refused else None
            handler = self.handlers.get(name) if macro is None else None
            if (macro is None and handler is None) or self._tokens > self.bounds.tokens:
                self.out.append(token)
                if name[:2] == "if" and is_unknown_condition(name):
                    self.conditions.append(False)
                return
            self._begin(token)
            if macro is not None:
                self.use(macro)
            elif handler is not None:
                handler(self, token)
            return
        if kind == UNDEFINED:
            return
        if kind == BEGIN:
            self.scopes.append([])
        elif kind == END:
            self.end_scope()
        self.math.see(token)
        self.out.append(token)

    def use(self, macro: Macro) -> None:
        """Replace a use, whose name was just read, by its body."""
        self._expansions += 1
        self.push(substitute(macro.body, read_arguments(self.gullet, macro)))

    def push(self, tokens: Sequence[Token]) -> None:
        """Tokens that expansion made are to be read next.

        Raises:
            Budget: that is more than the call, or the document, may make.
        """
        self._tokens += len(tokens) + 1
        bounds = self.bounds
        taken = len(self.gullet.taken or ())
        if self._expansions - self._start[0] > bounds.call_expansions + taken:
            raise Budget("it never ends")
        if self._tokens - self._start[1] > bounds.call_tokens + 8 * taken:
            raise Budget("it grows without bound")
        if self._expansions > bounds.expansions or self._tokens > bounds.tokens:
            raise Budget("the document's bound on expansion is reached")
        self.gullet.push(tokens)

    def expanded(self, tokens: Sequence[Token]) -> list[Token]:
        """``tokens`` expanded by themselves (``\\edef``, ``\\csname``).

        Raises:
            Budget: nested too deep, or too much is made.
        """
        gullet, out, watched = self.gullet, self.out, self._call
        self.gullet, self.out = Gullet(), []
        self.gullet.push(tokens)
        try:
            with self.deeper():
                while (token := self.gullet.next()) is not None:
                    self.step(token)
                return self.out
        finally:
            self.gullet, self.out, self._call = gullet, out, watched

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Around what may call itself.

        Raises:
            Budget: nested too deep.
        """
        if self._depth >= self.bounds.depth:
            raise Budget("it is nested too deep")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def define(self, name: str, macro: Macro | None, command: str, everywhere: bool = False) -> None:
        """Make ``name`` mean ``macro``; None: what is built in."""
        if everywhere or self.global_next:
            self.global_next = False
            for scope in self.scopes:
                scope[:] = [entry for entry in scope if entry[0] != name]
        elif self.scopes:
            self.scopes[-1].append((name, self.table.get(name)))
        if macro is None:
            self.table.pop(name, None)
        else:
            self.table[name] = macro
        if name in VERBATIM_COMMANDS:
            self.ordinary.add(name)
        self.refused.pop(name, None)
        self.definitions.append(Definition(command, name, macro))

    def refuse_definition(self, command: str, name: str, reason: str) -> None:
        """Note a definition that is not used."""
        self.definitions.append(Definition(command, name, refused=reason))

    def end_scope(self) -> None:
        """Local definitions end with their group."""
        for name, macro in reversed(self.scopes.pop() if self.scopes else []):
            if macro is None:
                self.table.pop(name, None)
            else:
                self.table[name] = macro

    def over(self) -> None:
        """What was put back is read on its own, not as a part of this call."""
        self._call = None
        self.gullet.taken = None

    def _begin(self, token: Token) -> None:
        if self._call is None and self._depth == 0:
            self._call = (token, len(self.out), len(self.scopes), len(self.conditions))
            self._start = (self._expansions, self._tokens)
            self.gullet.watch(token)

    def _finish(self) -> None:
        assert self._call is not None
        first, mark = self._call[:2]
        if first.kind == CONTROL and first.text in self.table:
            for token in self.out[mark:]:
                if token.kind == CONTROL and (token.text in OPAQUE or _is_internal(token.text)):
                    self._undo(f"it needs \\{token.text}", final=True)
                    return
        self.over()

    def _undo(self, reason: str, final: bool) -> None:
        """Leave a use as it was written; its arguments are expanded on their own."""
        if self._call is None:
            return
        first, mark, scopes, conditions = self._call
        self._call = None
        del self.out[mark:], self.conditions[conditions:]
        while len(self.scopes) > scopes:
            self.end_scope()
        taken = self.gullet.undo()
        self._tokens += len(taken)
        self._misused[first.text] += 1
        if final or self._misused[first.text] >= self.bounds.misuses:
            self.refused[first.text] = reason
        self.left.setdefault(first.text, reason)
        self.out.append(first)
        self.gullet.push(taken[1:])


def _is_internal(name: str) -> bool:
    return "@" in name and len(name) > 1
