"""TeX's conditionals, as far as they can be decided from the source (``\\iffalse``, ``\\newif``, ``\\ifx``, numbers).

One that cannot be decided stays in the text with both of its branches.
"""

from __future__ import annotations

from arriero.data.latex.expander import Expander, Handler, is_unknown_condition
from arriero.data.latex.gullet import UseError, same
from arriero.data.latex.tokenizer import BEGIN, CONTROL, END, RESOLVED, SPACE, TEXT, Token, render

_UNDECIDED = (
    *("ifdim", "ifodd", "ifvmode", "ifhmode", "ifinner", "ifvoid", "ifhbox", "ifvbox"),
    *("ifeof", "ifcase", "ifpdf", "ifluatex", "ifxetex"),
)
_NAMES = frozenset(
    [*_UNDECIDED, "iftrue", "iffalse", "ifx", "ifmmode", "ifnum", "ifdefined", "ifcsname", "if"]
)
_GROUPS = {"bgroup": Token(BEGIN, "{"), "egroup": Token(END, "}"), "@sptoken": Token(SPACE, " ")}


def same_meaning(expander: Expander, first: Token, second: Token) -> bool:
    """``\\ifx``: two tokens mean the same."""
    left, right = _resolve(expander, first), _resolve(expander, second)
    macros = expander.table.get(left.text), expander.table.get(right.text)
    if left.kind == CONTROL and right.kind == CONTROL and macros[0] is not None and macros[1] is not None:
        return macros[0] == macros[1]
    return same(left, right)


def _resolve(expander: Expander, token: Token) -> Token:
    for _ in range(16):
        macro = expander.table.get(token.text) if token.kind == CONTROL else None
        if macro is None or not macro.is_alias:
            break
        token = macro.body[0]
    token = _GROUPS.get(token.text, token) if token.kind in (CONTROL, RESOLVED) else token
    return Token(CONTROL, token.text) if token.kind == RESOLVED else token


def _is_condition(expander: Expander, token: Token) -> bool:
    if token.kind not in (CONTROL, RESOLVED):
        return False
    name = token.text
    return (
        name in _NAMES
        or name in expander.switches
        or (name not in expander.table and is_unknown_condition(name))
    )


def _decide(expander: Expander, answer: bool) -> None:
    """Go on in the branch that holds."""
    expander.conditions.append(True)
    if not answer:
        _skip(expander, to_else=True)


def _skip(expander: Expander, to_else: bool) -> None:
    """Drop tokens to the matching ``\\fi`` or, for a false condition, ``\\else``."""
    depth = 0
    while (token := expander.gullet.next()) is not None:
        if _is_condition(expander, token):
            depth += 1
        elif token.kind in (CONTROL, RESOLVED) and token.text == "fi":
            depth -= 1
            if depth < 0:
                expander.conditions.pop()
                return
        elif depth == 0 and to_else and token.kind in (CONTROL, RESOLVED) and token.text == "else":
            return
        if expander.gullet.taken is not None:
            # What was skipped need not come back, and may be long.
            del expander.gullet.taken[1:]
    raise UseError("a conditional has no end")


def _constant(expander: Expander, token: Token) -> None:
    _decide(expander, token.text == "iftrue")


def _math_mode(expander: Expander, token: Token) -> None:
    _decide(expander, expander.math.on)


def _equal(expander: Expander, token: Token) -> None:
    first, second = expander.gullet.single(), expander.gullet.single()
    if first is None or second is None:
        raise UseError("the file ends after \\ifx")
    _decide(expander, same_meaning(expander, first, second))


def _defined(expander: Expander, token: Token) -> None:
    name = expander.gullet.next()
    if name is None or name.kind != CONTROL:
        raise UseError("\\ifdefined needs a name")
    _decide(expander, name.text in expander.table or name.text in expander.handlers)


def _characters(expander: Expander, token: Token) -> None:
    """``\\if``: the next two tokens, after expansion, are the same character; ``\\ifcat``: of the same category."""
    left, right = _expanded_token(expander), _expanded_token(expander)
    controls = [each.kind in (CONTROL, RESOLVED) for each in (left, right)]
    if any(controls):
        _decide(expander, all(controls))
    elif token.text == "if":
        _decide(expander, left.text == right.text)
    else:
        _decide(expander, left.kind == right.kind and left.text.isalpha() == right.text.isalpha())


def _expanded_token(expander: Expander) -> Token:
    while (token := expander.gullet.single()) is not None:
        macro = expander.table.get(token.text) if token.kind == CONTROL else None
        if macro is not None:
            expander.use(macro)
        elif token.kind == CONTROL and token.text == "detokenize":
            expander.push(detokenized(expander))
        elif token.kind == CONTROL and token.text == "noexpand":
            return expander.gullet.single() or token
        else:
            return token
    raise UseError("the file ends after \\if")


def detokenized(expander: Expander) -> list[Token]:
    """The argument that follows, as characters."""
    text = render(expander.gullet.argument())
    return [Token(TEXT, text)] if text else []


def _named(expander: Expander, token: Token) -> None:
    """``\\ifcsname name\\endcsname``."""
    text = expander.gullet.until([Token(CONTROL, "endcsname")])
    _decide(expander, render(expander.expanded(text)).strip() in expander.table)


def _number(expander: Expander, token: Token) -> None:
    """``\\ifnum 1<2``, with numbers that are written out."""
    read: list[Token] = []
    text = ""
    while (part := expander.gullet.single()) is not None and len(read) < 24:
        read.append(part)
        done = any(mark in text for mark in "<=>") and (text[-1:].isdigit() and not part.text.isdigit())
        if part.kind in (CONTROL, RESOLVED, BEGIN) or done:
            break
        text += part.text.strip()
    for mark, answer in (("<", -1), ("=", 0), (">", 1)):
        left, found, right = text.partition(mark)
        if found and _is_number(left) and _is_number(right):
            if read and read[-1].kind != SPACE and read[-1].text not in ("relax",):
                expander.gullet.push(read[-1:])
            difference = int(left) - int(right)
            _decide(expander, (difference > 0) - (difference < 0) == answer)
            return
    expander.gullet.push(read)
    _undecided(expander, token)


def _is_number(text: str) -> bool:
    return text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 12


def _undecided(expander: Expander, token: Token) -> None:
    expander.conditions.append(False)
    expander.out.append(token)


def _else(expander: Expander, token: Token) -> None:
    if expander.conditions and expander.conditions[-1]:
        _skip(expander, to_else=False)
    else:
        expander.out.append(token)


def _fi(expander: Expander, token: Token) -> None:
    decided = expander.conditions.pop() if expander.conditions else False
    if not decided:
        expander.out.append(token)


CONDITIONALS: dict[str, Handler] = {
    **dict.fromkeys(_UNDECIDED, _undecided),
    **dict.fromkeys(("iftrue", "iffalse"), _constant),
    **dict.fromkeys(("if", "ifcat"), _characters),
    "ifx": _equal,
    "ifdefined": _defined,
    "ifcsname": _named,
    "ifmmode": _math_mode,
    "ifnum": _number,
    "else": _else,
    "fi": _fi,
}
