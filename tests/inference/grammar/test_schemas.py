"""Random schemas, and a model that says random things: whatever it says obeys."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.inference.grammar.compile import GrammarCompiler
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.tokenization.tokenizer import Tokenizer

Speak = Callable[..., tuple[list[int], bool]]
NAMES = st.text('abé"\\/ {}', min_size=1, max_size=3)
PATTERNS = st.sampled_from(["^[a-c]{1,3}$", "^x|^y", "b+", r"^\d{2}-\d{2}$", r'^"\\?$', "^(é|ü)*$"])
BOUNDS = st.integers(-500, 500) | st.floats(-50, 50).map(lambda x: round(x, 2))


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    for key in draw(
        st.sets(st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), max_size=2)
    ):
        schema[key] = draw(BOUNDS)
    if draw(st.integers(0, 5)) == 0:
        schema["multipleOf"] = draw(st.sampled_from([2, 3, 7, 0.5, 0.25]))
    return schema


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if draw(st.booleans()):
        schema["pattern"] = draw(PATTERNS)
    else:
        low, more = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        schema |= {"minLength": low, "maxLength": low + more}
    return schema


@st.composite
def objects(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, parts, max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    more = draw(st.sampled_from([False, {"type": "null"}]) | parts)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": more}


@st.composite
def arrays(draw: st.DrawFn, parts: st.SearchStrategy[Any]) -> dict[str, Any]:
    low, more = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    schema = {"type": "array", "items": draw(parts), "minItems": low, "maxItems": low + more}
    if draw(st.booleans()):
        schema["prefixItems"] = draw(st.lists(parts, min_size=1, max_size=2))
    return schema


SIMPLE: list[Any] = [
    None,
    True,
    False,
    *range(-9, 10),
    0.5,
    100,
    "",
    *"abxyé",
    "aa",
    "xxx",
    "aaaa",
    [],
    [0],
    [0, 0],
    {},
    {"a": 0},
]
"""If a schema is said to have no value, none of these may be one."""
LITERALS = st.none() | st.booleans() | st.integers(-99, 99) | NAMES | st.lists(st.integers(0, 3), max_size=2)
LEAVES: st.SearchStrategy[Any] = (
    numbers()
    | texts()
    | st.lists(LITERALS, min_size=1, max_size=4).map(lambda values: {"enum": values})
    | LITERALS.map(lambda value: {"const": value})
    | st.lists(st.sampled_from(["null", "boolean", "integer"]), min_size=1, unique=True).map(
        lambda t: {"type": t}
    )
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda parts: (
        objects(parts) | arrays(parts) | st.lists(parts, min_size=1, max_size=3).map(lambda p: {"anyOf": p})
    ),
    max_leaves=8,
)


@settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schema=SCHEMAS, seed=st.integers(0, 2**32))
def test_every_answer_parses_and_obeys_its_schema(
    compiler: GrammarCompiler, speak: Speak, schema: dict[str, Any], seed: int
) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    try:
        matcher = compiler.matcher(GrammarSpec("json_schema", json.dumps(schema)))
    except GrammarError as error:
        assert "nsatisfiable" in str(error) or "no answer" in str(error)
        assert not any(map(validator.is_valid, SIMPLE))
        return
    ids, ended = speak(compiler._tokenizer, matcher, seed)
    text = compiler._tokenizer.decode(ids)
    assert ended, text
    validator.validate(json.loads(text))


@pytest.mark.parametrize("seed", range(6))
def test_any_json_object(compiler: GrammarCompiler, speak: Speak, seed: int) -> None:
    tokenizer: Tokenizer = compiler._tokenizer
    ids, ended = speak(tokenizer, compiler.matcher(GrammarSpec("json_object")), seed)
    assert ended
    assert isinstance(json.loads(tokenizer.decode(ids)), dict)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    # DEL must be written as an escape
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('abü"\\\n', max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=60)
@given(
    value=st.dictionaries(st.text('abü"\\\n', max_size=4), VALUES, max_size=3),
    indent=st.sampled_from([None, 2]),
)
def test_any_object_may_be_said_as_json_writes_it(
    bytes_compiler: GrammarCompiler, value: Any, indent: int | None
) -> None:
    ids = bytes_compiler._tokenizer.encode(json.dumps(value, indent=indent, ensure_ascii=False))
    matcher = bytes_compiler.matcher(GrammarSpec("json_object"))
    assert matcher.fits(ids) == len(ids), json.dumps(value)
