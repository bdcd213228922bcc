"""Files of the same submission that a document reads in."""

from __future__ import annotations

from arriero.data.latex.expander import Budget, Expander, Handler
from arriero.data.latex.gullet import UseError
from arriero.data.latex.tokenizer import BEGIN, OTHER, SPACE, TEXT, Lexer, Token, render


def _input(expander: Expander, token: Token) -> None:
    """``\\input{file}``, ``\\input file``, ``\\include``, ``\\subfile``, ``\\import{folder}{file}``."""
    gullet = expander.gullet
    following = gullet.peek()
    if following is not None and following.kind == BEGIN:
        name = render(gullet.argument()).strip()
        if token.text in ("import", "subimport"):
            name = f"{name.rstrip('/')}/{render(gullet.argument()).strip()}"
        spelled = f"{{{name}}}"
    elif following is not None and following.kind == TEXT and token.text == "input":
        name = spelled = _file_name(expander)
    else:
        raise UseError("the file to read is not named")
    text = _read(expander, name, "tex")
    if text is None:
        expander.out += [token, Token(TEXT, spelled if spelled[0] == "{" else " " + spelled)]
        return
    gullet.files.append(Lexer(text, expander.ordinary))


def _file_name(expander: Expander) -> str:
    """Plain TeX's ``\\input name``: to the next space, which goes with it."""
    found = ""
    while (token := expander.gullet.next()) is not None:
        if token.kind not in (TEXT, OTHER):
            if token.kind != SPACE:
                expander.gullet.unread(token)
            break
        found += token.text
    return found


def _read(expander: Expander, name: str, kind: str) -> str | None:
    if expander.read_file is None or len(expander.gullet.files) >= expander.bounds.depth:
        return None
    if expander.files_read >= expander.bounds.files:
        raise Budget("too many files are read")
    text = expander.read_file(name, kind)
    expander.files_read += text is not None
    return text


def _package(expander: Expander, token: Token) -> None:
    """A style file of the submission is read for its definitions; what else it says is no text."""
    option = expander.gullet.optional()
    names = render(expander.gullet.argument())
    expander.out += [token, Token(TEXT, f"[{render(option)}]" if option else ""), Token(TEXT, f"{{{names}}}")]
    for name in reversed(names.split(",")):
        text = _read(expander, name.strip(), "sty")
        if text is not None:
            file = Lexer(text, expander.ordinary)
            file.at_is_letter(True)
            expander.gullet.files.append(file)


def _if_file_exists(expander: Expander, token: Token) -> None:
    """``\\IfFileExists{name}{yes}{no}``: in the submission."""
    name = render(expander.gullet.argument()).strip()
    yes, no = expander.gullet.argument(), expander.gullet.argument()
    stem, _, kind = name.rpartition(".")
    exists = expander.read_file is not None and expander.read_file(stem or name, kind or "tex") is not None
    expander.push(yes if exists else no)


def _at_begin_document(expander: Expander, token: Token) -> None:
    """Definitions that wait for the document are made at once."""
    expander.push(expander.gullet.argument())


READING: dict[str, Handler] = {
    **dict.fromkeys(("input", "include", "subfile", "import", "subimport"), _input),
    "IfFileExists": _if_file_exists,
    "AtBeginDocument": _at_begin_document,
    **dict.fromkeys(("usepackage", "RequirePackage"), _package),
}
