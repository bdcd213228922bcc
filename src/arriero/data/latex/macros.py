"""Macros: their parameters, the reading of a use's arguments, the body with the arguments put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arriero.data.latex.gullet import ARGUMENT_TOKENS, Gullet, UseError, singles
from arriero.data.latex.tokenizer import (
    BEGIN,
    CONTROL,
    END,
    NO_VALUE,
    OTHER,
    PARAMETER,
    RESOLVED,
    SPACE,
    TEXT,
    Token,
    render,
)

TRUE, FALSE = Token(RESOLVED, "BooleanTrue"), Token(RESOLVED, "BooleanFalse")


@dataclass(frozen=True)
class Parameter:
    """``kind``: mandatory; delimited (to ``tokens``); optional (between ``marks``, else ``tokens``); star; literal
    (``tokens`` that stand there and are no argument); brace (``#{``: the argument ends before a brace)."""

    kind: str
    tokens: tuple[Token, ...] = ()
    marks: str = "[]"


@dataclass(frozen=True)
class Macro:
    """What a control sequence stands for."""

    parameters: tuple[Parameter, ...]
    body: tuple[Token, ...]
    long: bool = True

    @property
    def is_alias(self) -> bool:
        """Whether it stands for one built-in token (``\\let``)."""
        return not self.parameters and len(self.body) == 1 and self.body[0].kind != PARAMETER


def read_arguments(gullet: Gullet, macro: Macro) -> list[list[Token]]:
    """The arguments of a use whose name was just read.

    Raises:
        UseError: the use does not match.
    """
    arguments: list[list[Token]] = []
    for parameter in macro.parameters:
        if parameter.kind == "mandatory":
            arguments.append(gullet.argument(macro.long))
        elif parameter.kind == "optional":
            given = gullet.optional(*parameter.marks)
            arguments.append(_default(parameter, arguments) if given is None else given)
        elif parameter.kind == "star":
            arguments.append([TRUE if gullet.star(parameter.marks[0]) else FALSE])
        elif parameter.kind == "delimited":
            arguments.append(gullet.until(parameter.tokens, macro.long))
        elif parameter.kind == "brace":
            arguments.append(_to_brace(gullet))
        else:
            gullet.expect(parameter.tokens)
    return arguments


def _default(parameter: Parameter, arguments: list[list[Token]]) -> list[Token]:
    """A default may name arguments before it (xparse)."""
    return substitute(parameter.tokens, arguments)


def _to_brace(gullet: Gullet) -> list[Token]:
    found: list[Token] = []
    while (token := gullet.next()) is not None:
        if token.kind == BEGIN:
            gullet.unread(token)
            return found
        found.append(token)
        if token.kind == END:
            break
    raise UseError("no brace follows")


def substitute(body: Sequence[Token], arguments: Sequence[Sequence[Token]]) -> list[Token]:
    """The body with arguments for ``#1`` to ``#9``; ``##`` becomes ``#``."""
    found: list[Token] = []
    place = 0
    while place < len(body):
        token = body[place]
        place += 1
        if token.kind != PARAMETER or place == len(body):
            found.append(token)
            continue
        following = body[place]
        place += 1
        if following.kind == PARAMETER:
            found.append(following)
        elif following.kind == TEXT and following.text[0] in "123456789":
            number = int(following.text[0])
            if number > len(arguments):
                raise UseError(f"the body names argument {number} of {len(arguments)}")
            found.extend(arguments[number - 1])
            if len(found) > 2 * ARGUMENT_TOKENS:
                raise UseError("it grows without bound")
            if len(following.text) > 1:
                found.append(Token(TEXT, following.text[1:]))
        else:
            found += [token, following]
    return found


def latex_parameters(count: int, default: Sequence[Token] | None) -> tuple[Parameter, ...]:
    """Those of ``\\newcommand{..}[count][default]``."""
    mandatory = [Parameter("mandatory")] * count
    if default is not None and count:
        mandatory[0] = Parameter("optional", tuple(default))
    return tuple(mandatory)


def tex_parameters(tokens: Sequence[Token]) -> tuple[Parameter, ...]:
    """Those of ``\\def\\x<tokens>{``.

    Raises:
        UseError: parameters are not numbered 1, 2, 3.
    """
    parameters: list[Parameter] = []
    literal: list[Token] = []
    pieces = [token._replace(gap="") for token in singles(tokens)]
    count = place = 0

    def close() -> None:
        if count == 0:
            parameters.extend([Parameter("literal", tuple(literal))] if literal else [])
        elif literal:
            parameters[-1] = Parameter("delimited", tuple(literal))
        literal.clear()

    while place < len(pieces):
        token = pieces[place]
        place += 1
        if token.kind != PARAMETER:
            literal.append(token)
            continue
        close()
        if place == len(pieces):
            parameters[-1:] = [replace(parameters[-1], kind="brace")] if count else []
            return tuple(parameters)
        count += 1
        if pieces[place].text != str(count):
            raise UseError("parameters must be numbered in order")
        parameters.append(Parameter("mandatory"))
        place += 1
    close()
    return tuple(parameters)


def xparse_parameters(specification: Sequence[Token]) -> tuple[Parameter, ...]:
    """Those of ``\\NewDocumentCommand{..}{specification}``: m o O s t d D r R g G u v, with + and ! before them.

    Raises:
        UseError: another letter.
    """
    gullet = Gullet()
    gullet.push(specification)
    parameters: list[Parameter] = []
    while (token := gullet.peek()) is not None:
        gullet.single()
        letter = token.text[:1]
        if letter in "+!":
            continue
        if letter == ">":
            gullet.argument()
            continue
        parameters.append(_xparse_parameter(letter, gullet))
    return tuple(parameters)


def _xparse_parameter(letter: str, gullet: Gullet) -> Parameter:
    nothing = (NO_VALUE,)
    if letter in ("m", "v"):
        return Parameter("mandatory")
    if letter == "s":
        return Parameter("star", marks="*")
    if letter == "t":
        return Parameter("star", marks=_mark(gullet))
    if letter == "u":
        return Parameter("delimited", tuple(singles(gullet.argument())))
    if letter not in ("o", "O", "d", "D", "r", "R", "g", "G"):
        raise UseError(f"argument specification {letter!r} is not known")
    marks = {"o": "[]", "g": "{}"}.get(letter.lower()) or _mark(gullet) + _mark(gullet)
    default = tuple(gullet.argument()) if letter.isupper() else nothing
    return Parameter("optional", default, marks)


def _mark(gullet: Gullet) -> str:
    token = gullet.argument()
    if len(token) != 1 or token[0].kind not in (TEXT, OTHER):
        raise UseError("a mark of one character is expected")
    return token[0].text


def name_of(tokens: Sequence[Token]) -> str:
    """The control sequence that ``{\\x}`` or ``\\x`` names.

    Raises:
        UseError: it is none.
    """
    present = [token for token in tokens if token.kind != SPACE]
    if len(present) != 1 or present[0].kind not in (CONTROL, RESOLVED):
        raise UseError(f"{render(tokens)[:40]!r} is no name of a macro")
    return present[0].text
