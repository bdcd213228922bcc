"""What else TeX and LaTeX do while they expand, as far as authors' macros use it: looking ahead, names from text,
conditionals, packages and files of the same submission."""

from __future__ import annotations

from arriero.data.latex.choices import CHOICES
from arriero.data.latex.conditionals import CONDITIONALS, detokenized, same_meaning
from arriero.data.latex.definitions import DEFINITIONS, let
from arriero.data.latex.expander import Expander, Handler
from arriero.data.latex.gullet import UseError
from arriero.data.latex.loops import LOOPS
from arriero.data.latex.macros import read_arguments, substitute
from arriero.data.latex.reading import READING
from arriero.data.latex.tokenizer import (
    BEGIN,
    BEGIN_GROUP,
    CONTROL,
    END_GROUP,
    OTHER,
    PARAGRAPH,
    RESOLVED,
    SPACE,
    TEXT,
    Token,
    render,
    tokenize,
)

_TWO = frozenset(
    ["frac", "dfrac", "tfrac", "cfrac", "binom", "dbinom", "tbinom", "overset", "underset", "stackrel"]
)
_ONE = frozenset(
    [
        "sqrt",
        "mathbb",
        "mathcal",
        "mathbf",
        "mathrm",
        "mathsf",
        "mathfrak",
        "mathscr",
        "mathit",
        "mathtt",
        "boldsymbol",
        "bm",
        "text",
        "mbox",
        "hat",
        "widehat",
        "bar",
        "overline",
        "underline",
        "tilde",
        "widetilde",
        "vec",
        "dot",
        "ddot",
        "check",
        "acute",
        "grave",
        "operatorname",
        "textbf",
        "textit",
        "emph",
    ]
)
_STANDARD_SPACED = ".,;:!?)]}'/-~"


def _arguments_in_braces(expander: Expander, token: Token) -> None:
    """``\\frac\\x2``: TeX takes the macro itself for the argument, so its text is put in braces."""
    gullet = expander.gullet
    count = 2 if token.text in _TWO else 1
    expander.out.append(token)
    found: list[Token] = []
    for _ in range(count):
        following = gullet.peek()
        if following is None or following.kind not in (BEGIN, CONTROL, TEXT):
            break
        if count == 1 and (following.kind != CONTROL or following.text not in expander.table):
            break
        argument = gullet.argument()
        lone = following.kind != BEGIN
        wrap = not lone or (following.kind == CONTROL and following.text in expander.table)
        found += [BEGIN_GROUP, *argument, END_GROUP] if wrap else argument
    gullet.push(found)
    expander.over()


def _look_ahead(expander: Expander, token: Token) -> None:
    """``\\@ifnextchar x{yes}{no}``."""
    gullet = expander.gullet
    gullet.peek()
    wanted = gullet.single()
    yes, no = gullet.argument(), gullet.argument()
    following = gullet.peek()
    if wanted is None:
        raise UseError("the file ends in an argument")
    found = following is not None and same_meaning(expander, _first(following), wanted)
    expander.push(yes if found else no)


def _first(token: Token) -> Token:
    return Token(TEXT, token.text[0]) if token.kind == TEXT else token


def _if_star(expander: Expander, token: Token) -> None:
    yes, no = expander.gullet.argument(), expander.gullet.argument()
    expander.push(yes if expander.gullet.star() else no)


def _named(expander: Expander, token: Token) -> None:
    """``\\csname ...\\endcsname`` and ``\\@nameuse{...}``."""
    expander.push([_name_from_text(expander, token)])


def _name_from_text(expander: Expander, token: Token) -> Token:
    if token.text == "csname":
        text = expander.gullet.until([Token(CONTROL, "endcsname")])
    else:
        text = expander.gullet.argument()
    name = render(expander.expanded(text)).strip()
    if not name or "\\" in name:
        raise UseError("a control sequence's name is no text")
    return Token(CONTROL, name)


def _expand_after(expander: Expander, token: Token) -> None:
    """``\\expandafter<a><b>``: b is expanded once before a is looked at."""
    gullet = expander.gullet
    first, second = gullet.next(), gullet.next()
    if first is None or second is None:
        raise UseError("the file ends after \\expandafter")
    if second.kind == CONTROL:
        macro = expander.table.get(second.text)
        if macro is not None:
            expander.push(substitute(macro.body, read_arguments(gullet, macro)))
        elif second.text in ("csname", "@nameuse"):
            expander.push([_name_from_text(expander, second)])
        elif second.text in _EXPANDABLE:
            with expander.deeper():
                expander.handlers[second.text](expander, second)
        else:
            gullet.push([second])
    else:
        gullet.push([second])
    expander.push([first])


_EXPANDABLE = frozenset(
    {"expandafter", "else", "fi", "@firstoftwo", "@secondoftwo", "@firstofone", "@ifundefined"}
)


def _no_expand(expander: Expander, token: Token) -> None:
    following = expander.gullet.next()
    if following is not None:
        expander.out.append(following)


def _future_let(expander: Expander, token: Token) -> None:
    gullet = expander.gullet
    name, command, following = gullet.next(), gullet.next(), gullet.single()
    if name is None or command is None or following is None or name.kind != CONTROL:
        raise UseError("the file ends after \\futurelet")
    let(expander, name.text, following, "futurelet")
    expander.definitions.pop()
    expander.push([command, following])


def _drop(expander: Expander, token: Token) -> None:
    """``\\relax`` and ``\\protect`` leave no text."""


def _detokenize(expander: Expander, token: Token) -> None:
    expander.out += detokenized(expander)


_KERNEL = {
    "m@th": "", "z@": "0pt ", "p@": "pt", "@ne": "1", "tw@": "2", "thr@@": "3", "@plus": "plus", "@minus": "minus",
    "@height": "height", "@width": "width", "@depth": "depth", "hb@xt@": "\\hbox to", "@xp": "\\expandafter",
}  # fmt: skip
"""LaTeX's abbreviations in authors' macros, and what they are short for."""


def _abbreviation(expander: Expander, token: Token) -> None:
    expander.push(tokenize(_KERNEL[token.text]))


def _space_or_not(expander: Expander, token: Token) -> None:
    """``\\xspace``."""
    following = expander.gullet.next()
    if following is None:
        return
    expander.gullet.unread(following)
    spaced = following.kind in (TEXT, BEGIN) or (following.kind == CONTROL and following.text[:1].isalpha())
    if following.kind in (SPACE, PARAGRAPH) or (following.text[:1] in _STANDARD_SPACED):
        return
    if spaced or (following.kind == OTHER and following.text in "$["):
        expander.out.append(Token(SPACE, " "))


def _math(expander: Expander, token: Token) -> None:
    expander.math.on = token.text in ("(", "[")
    expander.out.append(token)


def _begin(expander: Expander, token: Token) -> None:
    name = render(expander.gullet.argument())
    macro = expander.table.get(f"begin {name}")
    expander.scopes.append([])
    if macro is None or f"begin {name}" in expander.refused:
        expander.math.environment(name, True)
        expander.out += [token, BEGIN_GROUP, Token(TEXT, name), END_GROUP]
        return
    arguments = read_arguments(expander.gullet, macro)
    expander.environments.append((name, arguments))
    expander.push(substitute(macro.body, arguments))


def _end(expander: Expander, token: Token) -> None:
    name = render(expander.gullet.argument())
    macro = expander.table.get(f"end {name}")
    if macro is None or not expander.environments or expander.environments[-1][0] != name:
        expander.end_scope()
        expander.math.environment(name, False)
        expander.out += [token, BEGIN_GROUP, Token(TEXT, name), END_GROUP]
        return
    _, arguments = expander.environments.pop()
    expander.push([*substitute(macro.body, arguments), Token(RESOLVED, "end scope")])


def _end_scope(expander: Expander, token: Token) -> None:
    expander.end_scope()


def _group(expander: Expander, token: Token) -> None:
    """``\\begingroup`` and its kin: they stay in the text, and definitions in them are local."""
    if token.text in ("begingroup", "bgroup"):
        expander.scopes.append([])
    else:
        expander.end_scope()
    expander.out.append(token)


def _letters(expander: Expander, token: Token) -> None:
    if expander.gullet.files:
        file = expander.gullet.files[-1]
        if token.text.startswith("Expl"):
            file.expl3(token.text == "ExplSyntaxOn")
        else:
            file.at_is_letter(token.text == "makeatletter")


def _category(expander: Expander, token: Token) -> None:
    """``\\catcode`\\@=11``; other characters keep their categories."""
    tokens = [expander.gullet.single() for _ in range(3)]
    spelled = render([part for part in tokens if part is not None])
    if spelled.replace(" ", "") not in ("`\\@=", "`@="):
        expander.gullet.push([part for part in tokens if part is not None])
        expander.out.append(token)
        return
    digits = ""
    while (part := expander.gullet.single()) is not None:
        if part.kind != TEXT or not part.text.isdigit():
            expander.gullet.push([part])
            break
        digits += part.text
    if expander.gullet.files:
        expander.gullet.files[-1].at_is_letter(digits == "11")


def _math_palette(expander: Expander, token: Token) -> None:
    """``\\mathpalette\\x{y}`` (The TeXbook, page 360)."""
    macro, argument = expander.gullet.argument(), expander.gullet.argument()
    found: list[Token] = [Token(RESOLVED, "mathchoice")]
    for style in ("displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle"):
        found += [BEGIN_GROUP, *macro, Token(RESOLVED, style), BEGIN_GROUP, *argument, END_GROUP, END_GROUP]
    expander.push(found)


HANDLERS: dict[str, Handler] = {
    **DEFINITIONS,
    **CONDITIONALS,
    **dict.fromkeys(_TWO | _ONE, _arguments_in_braces),
    **dict.fromkeys(("@ifnextchar", "kernel@ifnextchar"), _look_ahead),
    **CHOICES,
    **dict.fromkeys(("csname", "@nameuse"), _named),
    **dict.fromkeys(("relax", "protect", "BooleanTrue", "BooleanFalse"), _drop),
    **dict.fromkeys("([)]", _math),
    **dict.fromkeys(("begingroup", "endgroup", "bgroup", "egroup"), _group),
    **dict.fromkeys(("makeatletter", "makeatother", "ExplSyntaxOn", "ExplSyntaxOff"), _letters),
    **READING,
    **LOOPS,
    "@ifstar": _if_star,
    **dict.fromkeys(_KERNEL, _abbreviation),
    "detokenize": _detokenize,
    "expandafter": _expand_after,
    "noexpand": _no_expand,
    "futurelet": _future_let,
    "xspace": _space_or_not,
    "begin": _begin,
    "end": _end,
    "end scope": _end_scope,
    "catcode": _category,
    "mathpalette": _math_palette,
}
"""What control sequences that are no macros do while a document is expanded."""
