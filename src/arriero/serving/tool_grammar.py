"""The grammar of an answer that calls functions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from arriero.inference.grammar.compile import options, regex_rule
from arriero.inference.grammar.schema import prepare_schema, read_schema
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.inference.grammar.vocabulary import mark_name
from arriero.serving.tool_formats import ToolFormat


class Function(Protocol):
    """A function that may be called."""

    @property
    def name(self) -> str:
        """Its name: letters, digits, ``_`` and ``-``."""
        ...

    @property
    def parameters(self) -> dict[str, Any] | None:
        """JSON Schema of the object of its arguments; None: it has none."""
        ...

    @property
    def strict(self) -> bool | None:
        """Refuse a schema that cannot be enforced in full; else what cannot be is left out."""
        ...


def call_grammar(
    form: ToolFormat, functions: Sequence[Function], *, forced: bool, parallel: bool, text: GrammarSpec | None
) -> GrammarSpec:
    """Calls of these functions, in a model's format, with arguments by their schemas.

    Args:
        forced: the answer is a call; else it may be text, free up to where a call begins.
        parallel: several calls may follow one another.
        text: what an answer without a call must be; None for free text.

    Raises:
        GrammarError: a schema is refused, or ``text`` is a grammar that cannot be an alternative.
    """
    if text is not None and text.kind != "regex" and not form.opener and not forced:
        return _json_or_call(form, functions, text)
    names = [f"call_{number}" for number in range(len(functions))]
    more = f" ({_words(form.between, form)} call)*" if parallel and form.between else ""
    rules = [f"calls: {_words(form.opener if forced else '', form)} call{more} {_words(form.closer, form)}"]
    rules.append(f"call: {' | '.join(names)}")
    number_rule = r' (/, "id": "[a-zA-Z0-9]{9}"/)?' if form.numbered else ""
    for number, function in enumerate(functions):
        head = _words(f"{form.head}{function.name}{form.middle}", form)
        tail = f"{number_rule} {_words(form.tail, form)}"
        rules.append(f"call_{number}: {head} arguments_{number}{tail}")
        rules.append(f"arguments_{number}: %json {arguments_schema(function, number)}")
    return GrammarSpec("lark", "\n".join([*(_start(form, text) if not forced else ["start: calls"]), *rules]))


def _start(form: ToolFormat, text: GrammarSpec | None) -> list[str]:
    """The choice between a text and calls."""
    if text is not None:
        return [f"start: text | {_words(form.opener, form)} calls", f"text: {_alternative(text)}"]
    if not form.opener:  # then a call is told from a text by its first character
        return ["start: TEXT | calls", r"TEXT: /([^{](.|\n)*)?/"]
    trigger, rest = form.trigger, form.opener.removeprefix(form.trigger)
    if trigger in form.marks:  # a text cannot hold the token, and must not look as if it did
        other = rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{re.escape(trigger)}(.|\n)*/"
        return [f"start: TEXT | TEXT {_words(form.opener, form)} calls", other]
    return [
        f"start: TEXT | lead {_words(rest, form)} calls",
        r"TEXT: /(.|\n)*/",
        f"lead[lazy]: TEXT {_literal(trigger)}",
    ]


def _json_or_call(form: ToolFormat, functions: Sequence[Function], text: GrammarSpec) -> GrammarSpec:
    """JSON that is either an answer or a call: nothing tells them apart before their keys.

    So both are schemas, on one line, as calls are written.
    """
    ways = [_alternative(text, LINE)]
    for number, function in enumerate(functions):
        arguments = json.loads(arguments_schema(function, number))
        del arguments["x-guidance"]
        call = {
            "type": "object",
            "properties": {"name": {"const": function.name}, form.arguments: arguments},
            "required": ["name", form.arguments],
            "additionalProperties": False,
            # references are read from the root, so the definitions move there
            **{key: arguments.pop(key) for key in ("$defs", "definitions") if key in arguments},
            "x-guidance": {**LINE, "lenient": not function.strict},
        }
        ways.append("%json " + json.dumps(call))
    return GrammarSpec("lark", "start: " + " | ".join(ways))


LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""The library's options for JSON on one line, as ``json.dumps`` writes it."""


def _alternative(text: GrammarSpec, form: dict[str, Any] | None = None) -> str:
    how = {**options(text.strict), **(form or {})}
    if form:
        del how["whitespace_pattern"]
    if text.kind == "json_object":
        return "%json " + json.dumps({"type": "object", "x-guidance": how})
    if text.kind == "json_schema":
        schema = prepare_schema(read_schema(text.text))
        wrapped = schema if isinstance(schema, dict) else {"anyOf": [schema]}
        return "%json " + json.dumps({**wrapped, "x-guidance": how})
    if text.kind == "regex":
        return regex_rule(text.text)
    raise GrammarError("tools that may be called or not do not go with a grammar in Lark's notation")


def arguments_schema(function: Function, number: int) -> str:
    """The JSON Schema of a function's arguments, as the library takes it.

    Raises:
        GrammarError: with the place in ``tools``.
    """
    where = f"/tools/{number}/function/parameters"
    schema = function.parameters
    if schema is None:
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
    if schema.get("type", "object") not in ("object", ["object"]):
        raise GrammarError("a function's parameters should be a schema of type 'object'", path=where)
    try:
        ready = prepare_schema({"type": "object", **schema})
    except GrammarError as error:
        message = str(error).removeprefix(f"at {error.path}: ") if error.path else str(error)
        raise GrammarError(message, path=where + (error.path or "")) from None
    if ready is False:
        raise GrammarError("no value of finite length obeys the schema", path=where)
    return json.dumps({**ready, "x-guidance": options(bool(function.strict))})


def _words(text: str, form: ToolFormat) -> str:
    """A literal, in which the format's special tokens are those tokens."""
    if not form.marks:
        return _literal(text) if text else ""
    parts = re.split("(" + "|".join(map(re.escape, form.marks)) + ")", text)
    return " ".join(mark_name(part) if part in form.marks else _literal(part) for part in parts if part)


def _literal(text: str) -> str:
    return json.dumps(text)
