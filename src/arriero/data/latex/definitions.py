"""The commands by which authors define macros: LaTeX's, plain TeX's, xparse's, amsmath's and mathtools'."""

from __future__ import annotations

from collections.abc import Sequence

from arriero.data.latex.expander import Expander, Handler
from arriero.data.latex.gullet import UseError
from arriero.data.latex.macros import (
    Macro,
    latex_parameters,
    name_of,
    substitute,
    tex_parameters,
    xparse_parameters,
)
from arriero.data.latex.tokenizer import (
    BEGIN,
    CONTROL,
    PARAMETER,
    RESOLVED,
    SPACE,
    TEXT,
    Token,
    render,
    tokenize,
)

STRUCTURE = frozenset(
    [
        "part",
        "chapter",
        "section",
        "subsection",
        "subsubsection",
        "paragraph",
        "subparagraph",
        "appendix",
        "begin",
        "end",
        "item",
        "input",
        "include",
        "documentclass",
        "usepackage",
        "bibliography",
        "bibliographystyle",
        "printbibliography",
        "thebibliography",
        "bibitem",
        "label",
        "ref",
        "eqref",
        "cite",
        "citep",
        "citet",
        "caption",
        "footnote",
        "title",
        "author",
        "date",
        "abstract",
        "maketitle",
        "tableofcontents",
        "document",
        "newcommand",
        "renewcommand",
        "providecommand",
        "def",
        "gdef",
        "edef",
        "xdef",
        "let",
        "newenvironment",
        "renewenvironment",
        "relax",
    ]
)
"""Commands that keep their names whatever a document makes of them: readers of the text know them."""


def _define(expander: Expander, command: str, name: str, macro: Macro, everywhere: bool = False) -> None:
    if name in STRUCTURE:
        expander.refuse_definition(command, name, "it is a command of the document's structure")
    else:
        expander.define(name, macro, command, everywhere)


def _name(expander: Expander) -> str:
    expander.gullet.star()
    return name_of(expander.gullet.argument())


def _count(tokens: Sequence[Token] | None) -> int:
    text = render(tokens or ()).strip() or "0"
    if not (text.isascii() and text.isdigit() and int(text) <= 9):
        raise UseError(f"{text[:20]!r} is no number of arguments")
    return int(text)


def _new_command(expander: Expander, token: Token) -> None:
    gullet = expander.gullet
    name = _name(expander)
    count, default = _count(gullet.optional()), gullet.optional()
    body = tuple(gullet.argument())
    if token.text == "providecommand" and name in expander.table:
        expander.refuse_definition(token.text, name, "")
        return
    _define(expander, token.text, name, Macro(latex_parameters(count, default), body))


def _tex_definition(expander: Expander, token: Token, long: bool = False) -> None:
    gullet = expander.gullet
    name = name_of([gullet.next() or Token(SPACE, "")])
    _tex_body(expander, token, name, long)


def _tex_body(expander: Expander, token: Token, name: str, long: bool = True) -> None:
    gullet = expander.gullet
    text: list[Token] = []
    while (part := gullet.next()) is not None and part.kind != BEGIN:
        text.append(part)
        if len(text) > 200:
            raise UseError("a definition has no body")
    body = gullet.group()
    parameters = tex_parameters(text)
    if token.text in ("edef", "xdef"):
        body = expander.expanded(body)
    everywhere = token.text in ("gdef", "xdef")
    _define(expander, token.text, name, Macro(parameters, tuple(body), long), everywhere)


def _let(expander: Expander, token: Token) -> None:
    gullet = expander.gullet
    name = name_of([gullet.next() or Token(SPACE, "")])
    if gullet.star("="):
        space = gullet.next()
        if space is not None and space.kind != SPACE:
            gullet.unread(space)
    target = gullet.single()
    if target is None:
        raise UseError("the file ends in a definition")
    let(expander, name, target, token.text)


def let(expander: Expander, name: str, target: Token, command: str) -> None:
    """``\\let\\name=target``: the meaning that ``target`` has now."""
    meaning = expander.table.get(target.text) if target.kind == CONTROL else None
    if meaning is None:
        kept = target._replace(kind=RESOLVED, gap="") if target.kind == CONTROL else target
        if kept == Token(RESOLVED, name):
            expander.define(name, None, command)
            return
        meaning = Macro((), (kept,))
    _define(expander, command, name, meaning)


def _operator(expander: Expander, token: Token) -> None:
    star = "*" if expander.gullet.star() else ""
    name = name_of(expander.gullet.argument())
    body = [*tokenize("\\operatorname" + star + "{"), *expander.gullet.argument(), *tokenize("}")]
    _define(expander, token.text, name, Macro((), tuple(body)))


def _document_command(expander: Expander, token: Token) -> None:
    name = _name(expander)
    parameters = xparse_parameters(expander.gullet.argument())
    body = tuple(expander.gullet.argument())
    if token.text == "ProvideDocumentCommand" and name in expander.table:
        expander.refuse_definition(token.text, name, "")
        return
    _define(expander, token.text, name, Macro(parameters, body))


def _environment(expander: Expander, token: Token) -> None:
    gullet = expander.gullet
    gullet.star()
    name = render(gullet.argument()).strip()
    if token.text.endswith("DocumentEnvironment"):
        parameters = xparse_parameters(gullet.argument())
    else:
        count, default = _count(gullet.optional()), gullet.optional()
        parameters = latex_parameters(count, default)
    first, last = tuple(gullet.argument()), tuple(gullet.argument())
    if name in STRUCTURE:
        expander.refuse_definition(token.text, name, "it is a part of the document's structure")
        return
    expander.define(f"begin {name}", Macro(parameters, first), token.text)
    expander.table[f"end {name}"] = Macro(parameters, last)


_PAIRED = tokenize("\\IfBooleanTF{#1}{\\left}{\\IfNoValueF{#2}{#2}}")
_PAIRED_END = tokenize("\\IfBooleanTF{#1}{\\right}{\\IfNoValueF{#2}{#2}}")


def _paired_delimiter(expander: Expander, token: Token) -> None:
    """mathtools: ``\\abs{x}``, ``\\abs*{x}`` with delimiters that grow, ``\\abs[\\big]{x}``."""
    name = name_of(expander.gullet.argument())
    left, right = expander.gullet.argument(), expander.gullet.argument()
    body = [*_PAIRED, *left, *tokenize(" #3 "), *_PAIRED_END, *right]
    _define(expander, token.text, name, Macro(xparse_parameters(tokenize("s o m")), tuple(body)))


def _paired_delimiter_x(expander: Expander, token: Token) -> None:
    """mathtools: ``\\DeclarePairedDelimiterX{\\ip}[2]{<}{>}{#1,#2}``; its arguments follow the star and the size."""
    gullet = expander.gullet
    name, count = name_of(gullet.argument()), _count(gullet.optional())
    left, right, inner = gullet.argument(), gullet.argument(), gullet.argument()
    shifted = [[Token(PARAMETER, "#"), Token(TEXT, str(number + 2))] for number in range(1, count + 1)]
    space = Token(SPACE, " ")
    body = [*_PAIRED, *left, space, *substitute(inner, shifted), space, *_PAIRED_END, *right]
    parameters = xparse_parameters(tokenize("so" + "m" * count))
    _define(expander, token.text, name, Macro(parameters, tuple(body)))


def _prefix(expander: Expander, token: Token) -> None:
    """``\\long``, ``\\global``, ``\\protected``, ``\\outer`` before a definition."""
    gullet = expander.gullet
    following = gullet.peek()
    while following is not None and following.kind == CONTROL and following.text in _PREFIXES:
        gullet.next()
        expander.global_next |= following.text == "global"
        following = gullet.peek()
    if following is None or following.text not in _TEX_DEFINITIONS:
        expander.out.append(token)
        return
    gullet.next()
    expander.global_next |= token.text == "global"
    if following.text == "let":
        _let(expander, following)
    else:
        _tex_definition(expander, following, long=True)


def _named_definition(expander: Expander, token: Token) -> None:
    """``\\@namedef{name}...{body}`` and etoolbox's ``\\csdef``."""
    name = render(expander.expanded(expander.gullet.argument())).strip()
    _tex_body(expander, token, name)


def _new_switch(expander: Expander, token: Token) -> None:
    """``\\newif\\ifname``: ``\\nametrue`` and ``\\namefalse`` set it."""
    name = name_of(expander.gullet.argument())
    expander.switches.add(name)
    stem = name.removeprefix("if")
    for suffix in ("true", "false"):
        alias = Token(RESOLVED, f"if{suffix}")
        body = (Token(RESOLVED, "let"), Token(CONTROL, name), alias)
        expander.table[stem + suffix] = Macro((), body)
    expander.table[name] = Macro((), (Token(RESOLVED, "iffalse"),))


_PREFIXES = frozenset({"long", "global", "protected", "outer"})
_TEX_DEFINITIONS = frozenset({"def", "gdef", "edef", "xdef", "let"})

DEFINITIONS: dict[str, Handler] = {
    **dict.fromkeys(
        [
            "newcommand",
            "renewcommand",
            "providecommand",
            "DeclareRobustCommand",
            "newrobustcmd",
            "renewrobustcmd",
        ],
        _new_command,
    ),
    **dict.fromkeys(("def", "gdef", "edef", "xdef"), _tex_definition),
    "DeclareMathOperator": _operator,
    **dict.fromkeys(
        [
            "NewDocumentCommand",
            "RenewDocumentCommand",
            "ProvideDocumentCommand",
            "DeclareDocumentCommand",
            "NewExpandableDocumentCommand",
        ],
        _document_command,
    ),
    **dict.fromkeys(
        ["newenvironment", "renewenvironment", "NewDocumentEnvironment", "RenewDocumentEnvironment"],
        _environment,
    ),
    **dict.fromkeys(_PREFIXES, _prefix),
    "let": _let,
    "DeclarePairedDelimiter": _paired_delimiter,
    "DeclarePairedDelimiterX": _paired_delimiter_x,
    "@namedef": _named_definition,
    "csdef": _named_definition,
    "newif": _new_switch,
}
