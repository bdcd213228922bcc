"""JSON Schemas before they are compiled: limits, what is left out, and where an error is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from arriero.inference.grammar.finite import without_endless
from arriero.inference.grammar.spec import GrammarError

MAX_DEPTH = 100
"""Most levels of nesting: the library reads no more than 128."""

MAX_MULTIPLE = 100_000
"""Largest common multiple of a schema's ``multipleOf``, in units of their last decimal: each unit is a state."""

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
"""Formats of texts that are enforced. JSON Schema makes a format a mere note, so the others are left out."""

ONE = (
    "items",
    "additionalProperties",
    "not",
    "if",
    "then",
    "else",
    "contains",
    "propertyNames",
    "additionalItems",
    "unevaluatedItems",
    "unevaluatedProperties",
)
MANY = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def read_schema(text: str) -> Any:
    """The schema in a text.

    Raises:
        GrammarError: it is not JSON, or nested too deeply.
    """
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise GrammarError(f"the schema is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError as error:
        raise GrammarError(f"the schema is not JSON: {error}") from None
    return schema


def prepare_schema(schema: Any) -> Any:
    """A copy of the schema that is safe to compile: checked, without unknown formats, without endless branches.

    Raises:
        GrammarError: naming the place by its JSON pointer.
    """
    if not isinstance(schema, dict | bool):
        raise GrammarError(f"a schema should be an object or true, not {_kind(schema)}")
    _check_depth(schema)
    schema = json.loads(json.dumps(schema))
    if isinstance(schema, dict):
        schema.pop("x-guidance", None)  # options of the library, which are not the client's to set
    local = not any(isinstance(s, dict) and "$id" in s for _, s in subschemas(schema))
    steps = _Steps()
    for path, part in subschemas(schema):
        if not isinstance(part, dict | bool):
            raise GrammarError(f"a schema should be an object or true or false, not {_kind(part)}", path=path)
        if isinstance(part, dict):
            _check_reference(part, path, local)
            if "multipleOf" in part:
                steps.take(part["multipleOf"], path)
            if isinstance(part.get("format"), str) and part["format"] not in FORMATS:
                del part["format"]
    return without_endless(schema)


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(JSON pointer, schema) of a schema and of all schemas inside it, outer ones first."""
    waiting = [(path, schema)]
    while waiting:
        path, part = waiting.pop()
        yield path, part
        waiting += reversed(list(children(part, path)))


def children(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(JSON pointer, schema) of the schemas right inside a schema, in the order of its keys."""
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield f"{path}/{key}/{_escaped(name)}", part
        elif key in MANY and isinstance(value, list):
            for number, part in enumerate(value):
                yield f"{path}/{key}/{number}", part
        elif key in ONE:
            yield f"{path}/{key}", value


def place_of(schema: Any, error: str, try_out: Callable[[Any], str]) -> tuple[str, str]:
    """(JSON pointer, message) of the innermost schema that is at fault for an error of the whole.

    Args:
        try_out: the error of a schema on its own, "" when it has none.
    """
    path, tries = "", 0
    part = schema
    shared = {key: part[key] for key in ("$defs", "definitions") if isinstance(part, dict) and key in part}
    while True:
        for place, child in children(part, path):
            inside = place[len(path) + 1 :].split("/")[0]
            if not isinstance(child, dict) or inside in shared or tries >= 200:
                continue
            tries += 1
            found = try_out({**shared, **child})
            if found and (found == error or "nsatisfiable" in error):
                path, part, error = place, child, found
                break
        else:
            return path, error


def _check_depth(schema: Any) -> None:
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            for inner in (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            )
        ]
        if not level:
            return
    raise GrammarError(f"the schema is nested more than {MAX_DEPTH} levels deep")


def _check_reference(part: dict[str, Any], path: str, local: bool) -> None:
    reference = part.get("$ref", "#")
    if not isinstance(reference, str):
        raise GrammarError("'$ref' should be a text", path=path)
    if local and not reference.startswith("#"):
        raise GrammarError(
            f"'$ref' to {reference[:200]!r}: only references into the schema itself ('#/...') are followed, "
            "nothing is ever fetched",
            path=path,
        )


@dataclass
class _Steps:
    """The ``multipleOf`` of a schema: their least common multiple, and the unit in which all are whole."""

    common: Fraction | None = None
    unit: int = 1

    def take(self, value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise GrammarError("'multipleOf' should be a number above 0", path=path)
        step = Fraction(str(value))
        self.unit = math.lcm(self.unit, step.denominator)
        last = step if self.common is None else self.common
        self.common = Fraction(
            math.lcm(step.numerator, last.numerator), math.gcd(step.denominator, last.denominator)
        )
        if self.common * self.unit > MAX_MULTIPLE:
            raise GrammarError(
                f"'multipleOf' {value}: the steps of one schema may have a common multiple of at most "
                f"{MAX_MULTIPLE:,} times their last decimal",
                path=path,
            )


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
