"""Which language an answer must be in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from arriero.errors import ArrieroError

Kind = Literal["json_object", "json_schema", "regex", "lark"]


@dataclass(frozen=True)
class GrammarSpec:
    """A language, as text. Equal specs share one compiled grammar.

    Attributes:
        kind: ``json_object``: any JSON object (``text`` is empty); ``json_schema``: ``text`` is a JSON Schema;
            ``regex``: a regular expression that the whole answer matches (Rust's syntax, with ASCII's ``\\d``,
            ``\\w`` and ``\\s``); ``lark``: a context-free grammar in
            llguidance's dialect of Lark, with inline schemas (``%json {...}``).
        text: the schema, expression or grammar.
        strict: a schema's keywords that cannot be enforced are an error; else they are left out.
    """

    kind: Kind
    text: str = ""
    strict: bool = True


class GrammarError(ArrieroError):
    """A grammar that cannot be compiled, or an answer that cannot go on under it.

    ``path`` is the JSON pointer of the schema's part at fault, None where there is none.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message if not path else f"at {path}: {message}")
        self.path = path or None
