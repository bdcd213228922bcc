from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.grammar.compile import GrammarCompiler
from arriero.inference.grammar.matcher import Matcher
from arriero.inference.grammar.spec import GrammarError, GrammarSpec
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.serving.errors import ApiError
from arriero.serving.tool_formats import (
    GENERIC,
    HERMES,
    LLAMA3,
    MISTRAL,
    MISTRAL_ARGS,
    NEMO,
    ToolFormat,
    format_of,
)  # fmt: skip
from arriero.serving.tool_prompt import short_id
from arriero.serving.tool_reader import Argued, Called, Part, Said, ToolReader, delta_of, message_of
from arriero.serving.tools import Tools, finish_reason
from arriero.tokenization.load import load_tokenizer
from arriero.tokenization.special import CHATML_TEMPLATE
from arriero.tokenization.stream import StreamDecoder
from arriero.tokenization.tokenizer import Tokenizer

DATA = Path(__file__).parents[1] / "data"
LIKE_LLAMA = """\
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{{- bos_token }}{% if tools is not none %}[system]Environment: ipython
Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.
{% for t in tools %}{{ t | tojson(indent=4) }}
{% endfor %}{% endif %}
{%- for message in messages %}
{%- if not (message.role == 'tool' or 'tool_calls' in message) %}[{{ message.role }}]{{ message['content'] | trim }}
{% elif 'tool_calls' in message %}
{%- if not message.tool_calls | length == 1 %}{{ raise_exception("one call at a time") }}{% endif %}
{%- set call = message.tool_calls[0].function %}[assistant]
{{ '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}{{ '}' }}
{% else %}[ipython]{% if message.content is iterable %}{{ message.content | tojson }}{% endif %}
{% endif %}{%- endfor %}{% if add_generation_prompt %}[assistant]
{% endif %}"""
QWEN = (DATA / "chat_templates" / "qwen2.5.jinja").read_text("utf-8")
LIKE_MISTRAL = """\
{{- bos_token }}{% for message in messages %}
{%- if message.role == "user" %}
{%- if tools and loop.last %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif -%}
[INST] {{ message.content }}[/INST]
{%- elif message.tool_calls is defined and message.tool_calls is not none %}[TOOL_CALLS] [
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{% endif %}
{{- (call.function | tojson)[:-1] }}, "id": "{{ call.id }}"}{% if not loop.last %}, {% endif %}
{%- endfor %}]{{ eos_token }}
{%- elif message.role == "tool" %}
{%- if message.tool_call_id | length != 9 %}{{ raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{% endif -%}
[TOOL_RESULTS] {"content": {{ message.content }}, "call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %} {{ message.content }}{{ eos_token }}
{%- endif %}{% endfor %}"""
LIKE_NEMO = LIKE_MISTRAL.replace("[TOOL_CALLS] [", "[TOOL_CALLS][")
LIKE_DEVSTRAL = """\
{{- bos_token }}{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for message in messages %}
{%- if message.role == "user" %}[INST]{{ message.content }}[/INST]
{%- elif message.role == "tool" %}[TOOL_RESULTS]{{ message.content }}[/TOOL_RESULTS]
{%- else %}{{ message.content }}{% for call in message.tool_calls or [] -%}
[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}
{%- endfor %}{{ eos_token }}
{%- endif %}{% endfor %}"""
XML = (
    QWEN.replace('{"name": "\' }}', "<function=' }}")
    .replace('\'", "arguments": \'', "'>'")
    .replace("'}\\n</tool_call>'", "'</tool_call>'")
)


@dataclass(frozen=True)
class Function:
    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


CITY = {"type": "string"}
WEATHER = Function(
    "get_weather",
    {
        "type": "object",
        "properties": {"city": CITY, "days": {"type": "integer"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "The weather of a city",
)
NOW = Function("now")
ALL = (HERMES, LLAMA3, MISTRAL, NEMO, MISTRAL_ARGS)
FORMATS = pytest.mark.parametrize("form", ALL, ids=lambda form: form.name)
MARKS = ("[TOOL_CALLS]", "[ARGS]")
MARKED = pytest.mark.parametrize(
    "form",
    [replace(form, marks=tuple(m for m in MARKS if m in form.opener + form.middle)) for form in ALL[2:]],
    ids=lambda form: form.name,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(DATA / "stories260k")


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> Iterator[GrammarCompiler]:
    pytest.importorskip("llguidance")
    compiler = GrammarCompiler(tokenizer)
    yield compiler
    compiler.close()


def with_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return tokenizer.with_config(chat_template=template)


def offer(
    form: ToolFormat, *, forced: bool = False, parallel: bool = True, text: GrammarSpec | None = None
) -> GrammarSpec:
    spec = Tools(form, (), (WEATHER, NOW), forced, parallel).grammar(text)
    assert spec is not None
    return spec


def reads(compiler: GrammarCompiler, spec: GrammarSpec, text: str) -> Matcher | None:
    """The matcher after the whole text; None when the grammar refuses it."""
    matcher, ids = compiler.matcher(spec), compiler._tokenizer.encode_continuation(text)
    for token in ids:
        if not matcher.allowed()[token]:
            return None
        matcher.accept(token)
    return matcher


def parts_of(form: ToolFormat, pieces: list[str]) -> list[Part]:
    reader = ToolReader(form, NAMES)
    parts = [part for piece in pieces for part in reader.push(piece)]
    return [*parts, *reader.finish()]


NAMES = frozenset({"f", "a-b", "get_weather", "now"})
ONE = ("get_weather", '{"city": "Pa}r\\"is{", "days": 3}')
TWO = ("now", "{}")


# ---------------------------------------------------------------- what may be written


@FORMATS
def test_calls_and_free_text(compiler: GrammarCompiler, form: ToolFormat) -> None:
    spec = offer(form)
    one = form.call(*ONE)
    several = [form.answer([ONE, TWO])] if form.between else []
    for text in ("", "Hello {there} <tool_call", "no\nnew\n\nline", one, *several):
        matcher = reads(compiler, spec, text)
        assert matcher is not None and matcher.complete, text
    for wrong in (
        form.call("other", "{}"),
        form.call("now", '{"x": 1}'),
        form.call("get_weather", '{"days": 1}'),
        one + "x",
    ):
        matcher = reads(compiler, spec, wrong)
        assert matcher is None, wrong


@FORMATS
def test_a_call_that_is_asked_for_must_come(compiler: GrammarCompiler, form: ToolFormat) -> None:
    spec = offer(form, forced=True)
    matcher = reads(compiler, spec, form.call(*ONE))
    open_ended = form.between is not None and not (form.closer and form.between == ", ")
    assert matcher is not None and matcher.complete and matcher.finished == (not open_ended)
    empty = reads(compiler, spec, "")
    assert empty is not None and not empty.complete
    assert reads(compiler, spec, "Hello") is None


@FORMATS
def test_one_call_where_several_are_not_wanted(compiler: GrammarCompiler, form: ToolFormat) -> None:
    for forced in (False, True):
        spec = offer(form, parallel=False, forced=forced)
        matcher = reads(compiler, spec, form.call(*ONE))
        assert matcher is not None and matcher.finished
        assert reads(compiler, spec, form.answer([ONE, TWO])) is None


def test_text_before_a_call(compiler: GrammarCompiler) -> None:
    matcher = reads(compiler, offer(HERMES, parallel=False), "I see.\n" + HERMES.call(*ONE))
    assert matcher is not None and matcher.finished


@FORMATS
def test_an_answer_in_json_or_a_call(compiler: GrammarCompiler, form: ToolFormat) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    for text in (GrammarSpec("json_schema", json.dumps(schema)), GrammarSpec("regex", r'\{"n": \d+\}')):
        spec = offer(form, text=text)
        for said in ('{"n": 17}', form.call(*TWO), form.call(*ONE)):
            matcher = reads(compiler, spec, said)
            assert matcher is not None and matcher.complete, said
        assert reads(compiler, spec, "Hello") is None
    with pytest.raises(GrammarError, match="Lark"):
        offer(form, text=GrammarSpec("lark", 'start: "a"'))


def test_a_wrong_schema_is_named_by_its_place() -> None:
    wrong = Function("f", {"type": "object", "properties": {"a": {"$ref": "https://example.com"}}})
    with pytest.raises(GrammarError, match="nothing is ever fetched") as raised:
        Tools(HERMES, (), (NOW, wrong), False, True).grammar()
    assert raised.value.path == "/tools/1/function/parameters/properties/a"
    for parameters in ({"type": "string"}, {"$ref": "#"}):
        with pytest.raises(GrammarError) as raised:
            Tools(HERMES, (), (Function("f", parameters),), False, True).grammar()
        assert raised.value.path == "/tools/0/function/parameters"


def test_a_schema_is_enforced_as_far_as_it_can_be_unless_it_is_strict(compiler: GrammarCompiler) -> None:
    parameters = {
        "type": "object",
        "properties": {"a": {"type": "array", "uniqueItems": True, "items": {"enum": [1]}}},
    }
    loose, strict = (Function("f", parameters, strict=strict) for strict in (None, True))
    spec = Tools(HERMES, (), (loose,), True, False).grammar()
    assert spec is not None and reads(compiler, spec, HERMES.call("f", '{"a": [1, 1]}')) is not None
    assert reads(compiler, spec, HERMES.call("f", '{"a": [2]}')) is None
    spec = Tools(HERMES, (), (strict,), True, False).grammar()
    assert spec is not None
    with pytest.raises(GrammarError, match="uniqueItems"):
        compiler.matcher(spec)


@FORMATS
@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_says_anything_makes_calls_that_parse(
    compiler: GrammarCompiler, tokenizer: Tokenizer, form: ToolFormat, seed: int
) -> None:
    matcher, rng, text = compiler.matcher(offer(form, forced=True)), np.random.default_rng(seed), ""
    closing = np.array([2.0 * tokenizer.token_bytes(i).count(b'"') for i in range(tokenizer.vocab_size)])
    ids: list[int] = []
    for step in range(800):
        row = rng.normal(0, 2, tokenizer.vocab_size) + closing * step / 8
        matcher.mask(row)
        token = int(row.argmax())
        if token == tokenizer.eos_id or matcher.finished:
            break
        matcher.accept(token)
        ids.append(token)
    text = tokenizer.decode(ids)
    calls = message_of(parts_of(form, [text]))["tool_calls"]
    assert matcher.complete and calls
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert arguments == {} if call["function"]["name"] == "now" else isinstance(arguments["city"], str)


# ---------------------------------------------------------------- what is read back


def merged(parts: list[Part]) -> list[Any]:
    """Parts with neighbouring texts joined and without ids."""
    found: list[Any] = []
    for part in parts:
        last = found[-1] if found else None
        match part:
            case Said(text):
                if last and last[0] == "said":
                    last[1] += text
                else:
                    found.append(["said", text])
            case Called(index, _, name):
                found.append(["call", index, name, ""])
            case Argued(index, text):
                assert last and last[0] == "call" and last[1] == index
                last[3] += text
    return found


ARGUMENTS = st.dictionaries(
    st.text(max_size=4),
    st.none() | st.integers() | st.text('{}[]"\\a<>é', max_size=8) | st.lists(st.text('"]}', max_size=3)),
    max_size=3,
).map(lambda value: json.dumps(value, ensure_ascii=False))
CALLS = st.lists(st.tuples(st.sampled_from(["f", "get_weather", "a-b"]), ARGUMENTS), min_size=1, max_size=3)


@settings(deadline=None, max_examples=150)
@given(said=st.text("ab {<\n", max_size=12), calls=CALLS, cuts=st.lists(st.integers(0, 400), max_size=30))
def test_a_stream_in_any_pieces_says_the_same(
    said: str, calls: list[tuple[str, str]], cuts: list[int]
) -> None:
    for form in ALL:
        before = said if form.opener else ""
        calls = calls if form.between else calls[:1]
        text = before + form.answer(calls)
        places = sorted({0, len(text), *(c % (len(text) + 1) for c in cuts)})
        parts = parts_of(form, [text[a:b] for a, b in itertools.pairwise(places)])
        expected = [["said", before.rstrip()]] if before.strip() else []
        assert merged(parts) == expected + [["call", i, *call] for i, call in enumerate(calls)]
        message = message_of(parts)
        assert [c["function"]["arguments"] for c in message["tool_calls"]] == [a for _, a in calls]
        assert message["content"] == (before.rstrip() or None)
        assert len({c["id"] for c in message["tool_calls"]}) == len(calls)


@settings(deadline=None, max_examples=100)
@given(
    text=st.text('ab {<tool_call>\n"name:[TOOL_CALLS]', max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=10),
)
def test_text_without_calls_comes_out_as_it_is(text: str, cuts: list[int]) -> None:
    for form in ALL:
        if form.opener and form.opener.strip() in text:
            continue
        places = sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
        parts = parts_of(form, [text[a:b] for a, b in itertools.pairwise(places)])
        assert message_of(parts) == {"content": text}


def test_arguments_stream_as_they_come() -> None:
    reader = ToolReader(HERMES, NAMES)
    deltas = [delta_of(part) for piece in HERMES.call(*ONE) for part in reader.push(piece)]
    head, *rest = [delta["tool_calls"][0] for delta in deltas]
    assert head["function"] == {"name": "get_weather", "arguments": ""} and head["id"].startswith("call_")
    assert [part["function"]["arguments"] for part in rest] == list(ONE[1])
    assert finish_reason("stop", reader) == "tool_calls" and finish_reason("length", reader) == "length"
    assert (
        finish_reason("stop", ToolReader(HERMES, NAMES)) == "stop" and finish_reason("stop", None) == "stop"
    )


def test_a_call_that_was_cut_short() -> None:
    whole = HERMES.call(*ONE)
    assert message_of(parts_of(HERMES, ["Well. ", whole[:20]])) == {"content": "Well. " + whole[:20]}
    assert message_of(parts_of(LLAMA3, ['{"name": "Bob", "age": ', "3}"])) == {
        "content": '{"name": "Bob", "age": 3}'
    }
    cut = message_of(parts_of(HERMES, [whole[: whole.index("days")]]))
    assert cut["tool_calls"][0]["function"]["arguments"] == '{"city": "Pa}r\\"is{", "'


@settings(deadline=None, max_examples=100)
@given(calls=CALLS, end=st.integers(0, 400), cuts=st.lists(st.integers(0, 400), max_size=30))
def test_a_broken_call_is_text_or_what_came_of_it(
    calls: list[tuple[str, str]], end: int, cuts: list[int]
) -> None:
    """Cut anywhere: before the first name is known all of it is text; then the calls are beginnings of the real ones."""
    for form in ALL:
        calls = calls if form.between else calls[:1]
        whole = "Well.  " * bool(form.opener) + form.answer(calls)
        text = whole[: end % (len(whole) + 1)]
        places = sorted({0, len(text), *(c % (len(text) + 1) for c in cuts)})
        message = message_of(parts_of(form, [text[a:b] for a, b in itertools.pairwise(places)]))
        made = message.get("tool_calls", [])
        if not made:
            assert message["content"] == text
        for call, (name, arguments) in zip(made, calls, strict=False):
            assert call["function"]["name"] == name
            assert arguments.startswith(call["function"]["arguments"])


def test_the_numbers_of_calls_are_passed_over() -> None:
    text = (
        MISTRAL.call(*ONE, "abcDEF123").removesuffix("]")
        + ", "
        + MISTRAL.call("f", '{"id": "x"}', "123456789")[14:]
    )
    for size in (1, 3, len(text)):
        parts = parts_of(MISTRAL, [text[i : i + size] for i in range(0, len(text), size)])
        assert merged(parts) == [["call", 0, *ONE], ["call", 1, "f", '{"id": "x"}']]


# ---------------------------------------------------------------- special tokens


@pytest.fixture(scope="module")
def marked(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with Mistral's words as special tokens."""
    return with_special(tokenizer, (*MARKS, "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[INST]", "[/INST]"))


def tiny_model(**shape: int) -> Decoder:
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 64, "init_std": 0.4}
    model = Decoder(DecoderConfig.model_validate(sizes | shape))
    model.init_weights(0)
    return model.eval()


def with_special(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    definition = json.loads(json.dumps(tokenizer.definition))
    size = tokenizer.vocab_size
    for number, name in enumerate(names):
        added = {"id": size + number, "content": name, "special": True, "single_word": False, "lstrip": False,
                 "rstrip": False, "normalized": False}  # fmt: skip
        definition["added_tokens"].append(added)
    return Tokenizer(json.dumps(definition), tokenizer.config)


def pieces_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of an answer, its special tokens among them."""
    ids: list[int] = []
    for part in re.split(r"(\[TOOL_CALLS\]|\[ARGS\])", text):
        ids += (
            [tokenizer.special_ids[part]]
            if part in MARKS
            else tokenizer.encode_continuation(part)
            if part
            else []
        )
    return ids


def takes(compiler: GrammarCompiler, spec: GrammarSpec, ids: list[int]) -> bool:
    return compiler.matcher(spec).fits(ids) == len(ids)


@MARKED
def test_special_tokens_around_calls_come_as_such_and_never_as_text(
    marked: Tokenizer, form: ToolFormat
) -> None:
    pytest.importorskip("llguidance")
    compiler = GrammarCompiler(marked)
    try:
        for forced in (False, True):
            spec = offer(form, forced=forced)
            for text in (form.call(*ONE), form.answer([ONE, TWO]), *([] if forced else ["Hello [TOOL", ""])):
                assert takes(compiler, spec, pieces_of(marked, text)), text
            literal = marked.encode_continuation(form.call(*ONE))
            assert not set(literal) & set(marked.special_ids.values())
            assert not takes(compiler, spec, literal), "it would look like a call and be none"
        plain = GrammarSpec("regex", "(.|\n)*")
        assert not compiler.matcher(plain).allowed()[marked.special_ids["[TOOL_CALLS]"]]
    finally:
        compiler.close()


@MARKED
@pytest.mark.parametrize("seed", range(3))
def test_whatever_a_model_says_its_marked_calls_parse(marked: Tokenizer, form: ToolFormat, seed: int) -> None:
    pytest.importorskip("llguidance")
    compiler = GrammarCompiler(marked)
    matcher, rng = compiler.matcher(offer(form, forced=True)), np.random.default_rng(seed)
    compiler.close()
    decoder, text = StreamDecoder(marked), ""
    closing = np.array([2.0 * marked.token_bytes(i).count(b'"') for i in range(marked.vocab_size)])
    for step in range(800):
        if matcher.finished:
            break
        row = rng.normal(0, 2, marked.vocab_size) + closing * step / 8
        matcher.mask(row)
        token = int(row.argmax())
        if token == marked.eos_id:
            break
        matcher.accept(token)
        text += decoder.push(token, named=True)
    calls = message_of(parts_of(form, list(text + decoder.finish())))["tool_calls"]
    assert matcher.complete and calls
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert arguments == {} if call["function"]["name"] == "now" else isinstance(arguments["city"], str)


@pytest.mark.parametrize("template", ["mistral", "devstral"])
def test_calls_by_special_tokens_through_the_server(start: Any, template: str) -> None:
    pytest.importorskip("llguidance")
    source = {"mistral": LIKE_MISTRAL, "devstral": LIKE_DEVSTRAL}[template]
    names = (*MARKS, "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[INST]", "[/INST]")
    tokenizer = with_template(with_special(load_tokenizer(DATA / "stories260k"), names), source)
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=2048)
    server = start(model, tokenizer=tokenizer)
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {
        "zone": {"enum": ["CET", "UTC"]}}, "required": ["zone"], "additionalProperties": False}}}  # fmt: skip
    options: dict[str, Any] = {
        "tools": [tool],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "seed": 3,
    }
    choice = server.chat(**options, max_tokens=200).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    assert call["function"]["name"] == "now" and json.loads(call["function"]["arguments"])["zone"] in (
        "CET",
        "UTC",
    )
    streamed = ""
    for line in server.chat(**options, max_tokens=200, stream=True).text.splitlines():
        if line.startswith("data: {"):
            for part in json.loads(line[6:])["choices"][0]["delta"].get("tool_calls") or []:
                streamed += part["function"].get("arguments") or ""
    assert streamed == call["function"]["arguments"]
    history = [
        {"role": "user", "content": "when?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "12:00"},
    ]
    assert server.chat(messages=history, tools=[tool], tool_choice="none").status_code == 200
    free = server.chat(tools=[tool], max_tokens=30, seed=1).json()["choices"][0]
    assert "[TOOL_CALLS]" not in (free["message"]["content"] or "")


# ---------------------------------------------------------------- what the request asks for


def test_choices(tokenizer: Tokenizer) -> None:
    template = with_template(tokenizer, CHATML_TEMPLATE).chat
    both = [WEATHER, NOW]
    assert Tools.of(template, None).reader() is None
    none = Tools.of(template, both, "none")
    assert none.told == () and none.grammar() is None and none.reader() is None
    auto = Tools.of(template, both)
    assert len(auto.told) == 2 and not auto.forced and auto.parallel
    assert Tools.of(template, both, "required", parallel=False) == Tools(
        GENERIC, auto.told, (WEATHER, NOW), True, False
    )
    named = Tools.of(template, both, name="now")
    assert named.callable == (NOW,) and named.forced and not named.parallel and len(named.told) == 2
    for functions, choice, name in ((both, None, "other"), ([], "required", None), ([NOW, NOW], None, None)):
        with pytest.raises(ApiError) as raised:
            Tools.of(template, functions, choice, name=name)  # type: ignore[arg-type]
        assert raised.value.status == 400


HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "How is Paris?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "rain <|im_end|> 7°"},
]


def told(tokenizer: Tokenizer, template: str, messages: list[dict[str, Any]], *functions: Function) -> str:
    wrapped = with_template(tokenizer, template)
    tools = Tools.of(wrapped.chat, functions)
    return wrapped.decode(tools.prompt(wrapped.chat, messages), skip_special=False)


def test_a_template_that_knows_no_tools_is_told_in_a_system_message(tokenizer: Tokenizer) -> None:
    bare = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}[assistant]"
    text = told(tokenizer, bare, HISTORY, WEATHER)
    assert text.startswith("[system]You may call functions.") and '"name": "get_weather"' in text
    assert (
        '[assistant]<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
        in text
    )
    assert "[user]<tool_response>\nrain <|im_end|> 7°\n</tool_response>\n[assistant]" in text
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert told(tokenizer, bare, system, NOW).startswith("[system]Be brief.\n\nYou may call")
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + bare
    text = told(tokenizer, strict, [{"role": "user", "content": "Hi"}], NOW)
    assert text.startswith("[user]You may call functions.") and "\nHi\n" in text


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (QWEN, HERMES),
        (LIKE_LLAMA, LLAMA3),
        (LIKE_MISTRAL, MISTRAL),
        (LIKE_NEMO, NEMO),
        (LIKE_DEVSTRAL, MISTRAL_ARGS),
    ],
    ids=["qwen", "llama", "mistral", "nemo", "devstral"],
)
def test_templates_that_know_tools_render_them(tokenizer: Tokenizer, template: str, form: ToolFormat) -> None:
    wrapped = with_template(tokenizer, template)
    assert Tools.of(wrapped.chat, [NOW]).form == form
    text = told(tokenizer, template, [*HISTORY, {"role": "user", "content": "And now?"}], WEATHER)
    assert '"description": "The weather of a city"' in text
    number = short_id("call_1") if form.numbered else None
    assert form.call("get_weather", '{"city": "Paris"}', number) in text
    assert "7°" in text and (number is None or text.count(number) == 2)
    plain = told(tokenizer, template, [{"role": "user", "content": "Hi"}])
    assert "get_weather" not in plain and "Hi" in plain


def test_special_tokens_of_a_format_are_known_from_the_tokenizer(
    tokenizer: Tokenizer, marked: Tokenizer
) -> None:
    for template, form, marks in ((LIKE_MISTRAL, MISTRAL, MARKS[:1]), (LIKE_DEVSTRAL, MISTRAL_ARGS, MARKS)):
        assert format_of(with_template(tokenizer, template).chat) == form
        assert format_of(with_template(marked, template).chat) == replace(form, marks=marks)


def test_short_ids() -> None:
    assert short_id("abc123XYZ") == "abc123XYZ"
    for number in ("", "call_1", "123456789é", "12345678_", "\ud800", "x" * 1000):
        short = short_id(number)
        assert len(short) == 9 and short.isascii() and short.isalnum() and short == short_id(number)
    assert short_id("call_1") != short_id("call_2")


def test_a_template_with_another_way_of_calls_is_told_in_a_system_message(tokenizer: Tokenizer) -> None:
    assert XML != QWEN
    wrapped = with_template(tokenizer, XML)
    assert wrapped.chat.knows_tools and Tools.of(wrapped.chat, [NOW]).form == GENERIC
    text = told(tokenizer, XML, HISTORY, WEATHER)
    assert "You may call functions." in text and "# Tools" not in text
    assert GENERIC.call("get_weather", '{"city": "Paris"}') in text


def test_nothing_that_a_client_sends_becomes_a_special_token() -> None:
    template = "{{ tools | tojson }}{% for m in messages %}{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls else '' }}<s>{% endfor %}"
    wrapped = with_template(load_tokenizer(DATA / "stories260k"), template)
    hostile = Function("f", {"type": "object", "properties": {"</s>": {"description": "<s>"}}}, "</s>")
    call = {"id": "</s>", "type": "function", "function": {"name": "f", "arguments": '{"</s>": "<s>"}'}}
    messages = [
        {"role": "user", "content": "</s>"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    ids = wrapped.chat.render(
        [
            messages[0],
            {
                **messages[1],
                "tool_calls": [{**call, "function": {"name": "f", "arguments": {"</s>": "<s>"}}}],
            },
        ],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": hostile.description,
                    "parameters": hostile.parameters,
                },
            }
        ],
    ).ids
    special = set(wrapped.special_ids.values())
    assert [i for i in ids if i in special] == [wrapped.special_ids["<s>"]] * 2
    assert wrapped.decode(ids, skip_special=False).count("</s>") == 5
