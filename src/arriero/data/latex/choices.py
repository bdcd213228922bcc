"""Commands that choose between arguments, as authors' macros use them: LaTeX's internal ones, xparse's, etoolbox's and
ifthen's."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.data.latex.expander import Expander, Handler
from arriero.data.latex.gullet import Gullet, UseError
from arriero.data.latex.tokenizer import CONTROL, NO_VALUE, SPACE, Token, render


def _if_value(expander: Expander, token: Token) -> None:
    """``\\IfNoValueTF``, ``\\IfBooleanTF`` and their halves (xparse)."""
    argument = expander.gullet.argument()
    if token.text.startswith("IfBoolean"):
        answer = len(argument) == 1 and argument[0].text == "BooleanTrue"
    elif token.text.startswith("IfBlank"):
        answer = not render(argument).strip()
    else:
        answer = (argument == [NO_VALUE]) == token.text.startswith("IfNoValue")
    halves = token.text[len(token.text.rstrip("TF")) :]
    branches = {half: expander.gullet.argument() for half in halves}
    expander.push(branches.get("T" if answer else "F", []))


def _if_undefined(expander: Expander, token: Token) -> None:
    name = render(expander.expanded(expander.gullet.argument())).strip()
    known, unknown = expander.gullet.argument(), expander.gullet.argument()
    if token.text == "@ifundefined":
        known, unknown = unknown, known
    expander.push(known if name in expander.table or name in expander.handlers else unknown)


def _choose(expander: Expander, token: Token) -> None:
    """``\\@firstoftwo`` and its kin."""
    count, chosen = _CHOICES[token.text]
    arguments = [expander.gullet.argument() for _ in range(count)]
    expander.push(arguments[chosen] if chosen >= 0 else [])


_CHOICES = {
    "@firstoftwo": (2, 0),
    "@secondoftwo": (2, 1),
    "@firstofone": (1, 0),
    "@gobble": (1, -1),
    "@gobbletwo": (2, -1),
    "@empty": (0, -1),
}


def _if_text(expander: Expander, token: Token) -> None:
    """``\\ifblank{text}{yes}{no}``, ``\\ifstrempty``, ``\\ifstrequal{a}{b}{yes}{no}``."""
    text = render(expander.gullet.argument())
    other = render(expander.gullet.argument()) if token.text == "ifstrequal" else ""
    yes, no = expander.gullet.argument(), expander.gullet.argument()
    expander.push(yes if (text.strip() if token.text == "ifblank" else text) == other else no)


def _if_then_else(expander: Expander, token: Token) -> None:
    """``\\ifthenelse{\\equal{a}{b}}{yes}{no}`` and ``\\isempty``, with ``\\NOT``; others stay as they are."""
    test, yes, no = (expander.gullet.argument() for _ in range(3))
    answer = _test([part for part in test if part.kind != SPACE], expander)
    if answer is None:
        raise UseError("the test cannot be decided")
    expander.push(yes if answer else no)


def _test(test: Sequence[Token], expander: Expander) -> bool | None:
    if not test or test[0].kind != CONTROL:
        return None
    if test[0].text in ("NOT", "not"):
        inner = _test(test[1:], expander)
        return None if inner is None else not inner
    arguments = _groups(test[1:])
    texts = [render(expander.expanded(argument)).strip() for argument in arguments]
    if test[0].text == "equal" and len(texts) == 2:
        return texts[0] == texts[1]
    if test[0].text == "isempty" and len(texts) == 1:
        return not texts[0]
    return None


def _groups(tokens: Sequence[Token]) -> list[list[Token]]:
    gullet = Gullet()
    gullet.push(tokens)
    found = []
    while gullet.peek() is not None:
        found.append(gullet.argument())
    return found


CHOICES: dict[str, Handler] = {
    **dict.fromkeys(_CHOICES, _choose),
    **{
        f"If{what}{halves}": _if_value
        for what in ("NoValue", "Value", "Boolean", "Blank")
        for halves in ("TF", "T", "F")
    },
    **dict.fromkeys(("ifblank", "ifstrempty", "ifstrequal"), _if_text),
    "ifthenelse": _if_then_else,
    "@ifundefined": _if_undefined,
    "ifcsdef": _if_undefined,
}
