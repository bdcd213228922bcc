from __future__ import annotations

import builtins
import json
import threading
import time
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.inference.grammar.compile import GrammarCompiler, GrammarLimits
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.inference.request import QueueFullError
from arriero.tokenization.tokenizer import Tokenizer

ENDLESS = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}
DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(200):
    DEEP = {"type": "array", "items": DEEP}

WRONG: list[tuple[Any, str, str | None]] = [
    (False, "no value", None),
    ({"type": "string", "minLength": 5, "maxLength": 2}, "greater than maxLength", None),
    ({"enum": []}, "empty", None),
    ({"type": []}, "empty", None),
    ({"type": "text"}, "Invalid type", None),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types", None),
    ({"allOf": [{"const": 1}, {"const": 2}]}, "greater than", None),
    ({"type": "number", "minimum": 5, "maximum": 3}, "greater than", None),
    ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6}, "no integer", None),
    ({"type": "array", "minItems": 3, "maxItems": 1}, "greater than", None),
    ({"type": "string", "pattern": "^a{5}$", "maxLength": 2}, "empty", None),
    ({"type": "string", "pattern": "(a"}, "unclosed group", None),
    ({"type": "string", "pattern": "a(?=b)"}, "look-around", None),
    ({"$ref": "#/$defs/nothing"}, "does not exist", None),
    ({"$ref": "https://example.com/schema.json"}, "nothing is ever fetched", None),
    ({"items": [{"$ref": "other.json"}]}, "nothing is ever fetched", "/items/0"),
    ({"$ref": "#"}, "no value", None),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "no value", None),
    ({"$ref": "#/$defs/a", "$defs": {"a": ENDLESS}}, "no value", None),
    ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "no value", None),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#/anyOf/0"}]}, "no value", None),
    ({"not": {"type": "string"}}, "not", None),
    ({"multipleOf": 0}, "above 0", None),
    ({"multipleOf": 999983}, "common multiple", None),
    ({"properties": {"a": {"multipleOf": 9973}, "b": {"multipleOf": 9967}}}, "common multiple", "/properties/b"),
    ({"properties": {"a/b": {"type": "string", "pattern": "("}}}, "unclosed", "/properties/a~1b"),
    (
        {"type": "object", "required": ["a"], "properties": {"a": {"items": {"type": "number", "minimum": 2, "maximum": 1}, "minItems": 1, "type": "array"}}},
        "greater than",
        "/properties/a/items",
    ),
    ({"properties": {"a": 5}}, "not a number", "/properties/a"),
    ({"properties": {"a": {"$ref": 7}}}, "should be a text", "/properties/a"),
    ([], "not a list", None),
    ("string", "not a text", None),
    (None, "not null", None),
    (DEEP, "levels deep", None),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reason", "path"), WRONG, ids=[json.dumps(s)[:60] for s, _, _ in WRONG])
def test_what_no_answer_can_obey_is_refused_in_one_clear_line(
    bytes_compiler: GrammarCompiler, schema: Any, reason: str, path: str | None
) -> None:
    start = time.process_time()
    with pytest.raises(GrammarError, match=reason) as raised:
        bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps(schema)))
    assert raised.value.path == path
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[" * 100_000, '{"minimum": NaN}', "nonsense"])
def test_what_is_no_json_is_refused(bytes_compiler: GrammarCompiler, text: str) -> None:
    with pytest.raises(GrammarError, match=r"not JSON|levels deep"):
        bytes_compiler.matcher(GrammarSpec("json_schema", text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "("),
        ("regex", r"(a)\1"),
        ("regex", "a(?=b)"),
        ("regex", r"[^\s\S]"),
        ("regex", "a{5,2}"),
        ("lark", ""),
        ("lark", "start: start"),
        ("lark", "start: other"),
        ("lark", 'start: "a'),
        ("lark", "start: <|nothing|>"),
        ("lark", 'start: %json {"enum": []}'),
        ("lark", 'start: %json {"multipleOf": 999983}'),
        ("lark", 'start: %json {"$ref": "https://example.com"}'),
    ],
)
def test_wrong_expressions_and_grammars(bytes_compiler: GrammarCompiler, kind: Any, text: str) -> None:
    with pytest.raises(GrammarError) as raised:
        bytes_compiler.matcher(GrammarSpec(kind, text))
    assert "\n" not in str(raised.value)


def test_optional_branches_without_an_end_are_closed(bytes_compiler: GrammarCompiler) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "x": ENDLESS | {"$defs": {}}},
        "$defs": {"a": ENDLESS},
    }
    matcher = bytes_compiler.matcher(
        GrammarSpec("json_schema", json.dumps({**schema, "additionalProperties": False}))
    )
    tokenizer = bytes_compiler._tokenizer
    assert matcher.fits(tokenizer.encode('{"n": 3}')) == len(tokenizer.encode('{"n": 3}'))
    assert matcher.fits(tokenizer.encode('{"x')) < len(tokenizer.encode('{"x'))


def test_a_tree_refers_to_itself_and_ends(bytes_compiler: GrammarCompiler) -> None:
    tree = {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"type": "integer"}]}}
    matcher = bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps(tree)))
    for token in bytes_compiler._tokenizer.encode("[[1,[]],2]"):
        matcher.accept(token)
    assert matcher.finished


def test_formats_that_are_mere_notes_and_the_librarys_own_options_are_left_out(
    bytes_compiler: GrammarCompiler,
) -> None:
    encode = bytes_compiler._tokenizer.encode
    schema = {
        "type": "object",
        "x-guidance": {"item_separator": "(", "lenient": True},
        "properties": {"format": {"type": "string", "format": "password"}},
    }
    text = '{"format": "a b"}'
    assert bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps(schema))).fits(encode(text)) == len(
        encode(text)
    )
    with pytest.raises(GrammarError):
        bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps({**schema, "uniqueItems": True})))
    date = bytes_compiler.matcher(GrammarSpec("json_schema", '{"type": "string", "format": "date"}'))
    assert date.fits(encode('"x')) == 1
    literal = bytes_compiler.matcher(GrammarSpec("json_schema", '{"const": {"format": "odd"}}'))
    assert literal.fits(encode('{"format":"odd"}')) == len(encode('{"format":"odd"}'))


def test_what_cannot_be_enforced_is_left_out_where_it_need_not_be(bytes_compiler: GrammarCompiler) -> None:
    text = json.dumps({"type": "array", "uniqueItems": True, "items": {"enum": [1, 2]}})
    with pytest.raises(GrammarError, match="uniqueItems"):
        bytes_compiler.matcher(GrammarSpec("json_schema", text))
    matcher = bytes_compiler.matcher(GrammarSpec("json_schema", text, strict=False))
    encode = bytes_compiler._tokenizer.encode
    assert matcher.fits(encode("[1,1]")) == 5 and matcher.fits(encode("[3")) == 1


def test_white_space_has_a_bound(bytes_compiler: GrammarCompiler) -> None:
    encode = bytes_compiler._tokenizer.encode
    matcher = bytes_compiler.matcher(GrammarSpec("json_object"))
    assert matcher.fits(encode('{  "')) == 2
    pretty = json.dumps({"a": {"b": [1, {"c": None}]}}, indent=4)
    assert matcher.fits(encode(pretty)) == len(encode(pretty))
    assert matcher.fits(encode("[")) == 0
    assert matcher.fits(encode("{\n" + 100 * " ")) == 42


def test_equal_specs_are_compiled_once_and_the_oldest_are_forgotten(byte_tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(byte_tokenizer, limits=GrammarLimits(kept=3))
    first = compiler.compile(GrammarSpec("regex", "a"))
    assert compiler.compile(GrammarSpec("regex", "a")) is first
    assert not first.cancel()
    first.result()
    for number in range(4):
        compiler.matcher(GrammarSpec("regex", f"b{number}"))
    assert compiler.compile(GrammarSpec("regex", "a")) is not first
    assert len(compiler._kept) <= 4
    compiler.close()


def test_compiling_does_not_hold_up_the_caller(byte_tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(byte_tokenizer)
    big = {
        "type": "object",
        "properties": {f"p{i}": {"type": "string", "maxLength": i + 1} for i in range(700)},
    }
    start = time.monotonic()
    future = compiler.compile(GrammarSpec("json_schema", json.dumps(big)))
    held_up = time.monotonic() - start
    future.result()
    assert held_up < max(0.2, (time.monotonic() - start) / 2)  # a busy machine holds up both
    assert threading.current_thread().name != "grammar_0"
    compiler.close()


def test_limits_of_size_number_and_time(byte_tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(
        byte_tokenizer, limits=GrammarLimits(text=100, seconds=0.2, waiting=2), threads=1
    )
    with pytest.raises(GrammarError, match="101 characters"):
        compiler.matcher(GrammarSpec("regex", "a" * 101))
    gate = threading.Event()
    compiled = compiler._compiled
    compiler._compiled = lambda *args: (gate.wait(5), compiled(*args))[1]  # type: ignore[method-assign]
    slow = [compiler.compile(GrammarSpec("regex", text)) for text in ("a", "b", "c")]
    with pytest.raises(QueueFullError, match="try again later"):
        slow[2].result()
    with pytest.raises(GrammarError, match=r"more than 0.2 s"):
        slow[0].result()
    gate.set()
    slow[1].result()
    compiler.close()


def test_without_the_library_the_error_names_the_extra(
    byte_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "llguidance":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    compiler = GrammarCompiler(byte_tokenizer)
    with pytest.raises(ArrieroError, match=r"arriero\[grammar\]"):
        compiler.matcher(GrammarSpec("json_object"))
    compiler.close()


def test_a_schema_that_is_too_large_to_go_on_is_refused_at_once(bytes_compiler: GrammarCompiler) -> None:
    big = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}}
    with pytest.raises(GrammarError, match="too complex"):
        bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps(big)))
    some = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(400)}}
    assert not bytes_compiler.matcher(GrammarSpec("json_schema", json.dumps(some))).finished
