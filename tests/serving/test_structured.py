"""Answers that have to keep to a form: JSON, schemas, expressions, calls of tools; chat and responses alike."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ann", "bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"enum": ["llama", "mule"]}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}
ASK: Any = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def client(roomy: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=roomy.info.url + "/v1",
        api_key=roomy.info.key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "stop", choice
    return str(choice["message"]["content"])


@pytest.mark.parametrize("seed", range(6))
def test_every_answer_keeps_to_its_schema(server: Any, seed: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    found = json.loads(text_of(server.chat(response_format=form, seed=seed, max_tokens=200)))
    assert found["name"] in ("ann", "bob")
    assert 0 <= found["age"] <= 99
    again = json.loads(text_of(server.chat(guided_json=SCHEMA, seed=seed, max_tokens=200)))
    assert again == found


def test_expressions_and_grammars(server: Any) -> None:
    assert re.fullmatch("[ab]{3}-[0-9]", text_of(server.chat(guided_regex="[ab]{3}-[0-9]", max_tokens=30)))
    assert text_of(server.chat(guided_grammar='start: "ye" "s"', max_tokens=30)) == "yes"
    body = {"model": "tiny", "prompt": "x", "guided_regex": "(uno|dos)", "max_tokens": 20, "echo": True}
    assert server.http.post("/v1/completions", json=body).json()["choices"][0]["text"] in ("xuno", "xdos")


@pytest.mark.parametrize(
    "fields",
    [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "nope"}},
            }
        },
        {"guided_json": {"type": "object", "properties": {"a": False}, "required": ["a"]}},
        {"guided_json": {"$ref": "#/nowhere"}},
        {"guided_regex": "a(b"},
        {"guided_grammar": "start: other"},
        {"guided_regex": "x" * 300_000},
    ],
)
def test_impossible_forms_are_refused(server: Any, fields: dict[str, Any]) -> None:
    response = server.chat(**fields)
    assert response.status_code == 400, response.text
    assert server.chat().status_code == 200


def test_a_call_that_must_be_made(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(
        model="tiny", messages=ASK, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, seed=1
    )
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "lookup"
    assert json.loads(call.function.arguments)["word"] in ("llama", "mule")
    result = {"role": "tool", "tool_call_id": call.id, "content": "an animal"}
    more: Any = [*ASK, choice.message, result]
    after = client.chat.completions.create(
        model="tiny", messages=more, tools=[TOOL], tool_choice="none", max_tokens=5
    )
    assert after.choices[0].message.tool_calls is None


def test_a_streamed_call_is_the_whole_call(client: openai.OpenAI) -> None:
    choice: Any = {"type": "function", "function": {"name": "lookup"}}
    options: dict[str, Any] = {
        "model": "tiny",
        "messages": ASK,
        "tools": [TOOL],
        "tool_choice": choice,
        "seed": 2,
    }
    whole = client.chat.completions.create(**options).choices[0].message.tool_calls
    assert whole is not None
    name, arguments, ids, reason = "", "", set(), None
    for chunk in client.chat.completions.create(**options, stream=True):
        delta = chunk.choices[0].delta
        for call in delta.tool_calls or []:
            assert call.index == 0
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
            ids |= {call.id} - {None}
        reason = chunk.choices[0].finish_reason or reason
    assert (name, arguments) == ("lookup", whole[0].function.arguments)  # type: ignore[union-attr]
    assert len(ids) == 1
    assert reason == "tool_calls"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"tools": [TOOL, TOOL]}, "two functions"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "'g'"),
        ({"messages": [*ASK, {"role": "tool", "content": "x"}]}, "tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]}, "tool_call_id"),
    ],
)
def test_wrong_tools(server: Any, fields: dict[str, Any], word: str) -> None:
    response = server.chat(**fields)
    assert response.status_code == 400, response.text
    assert word in response.json()["error"]["message"]
