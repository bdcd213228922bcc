"""`/v1/responses` as OpenAI's client uses it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from arriero.serving.schema.chat import Message
from arriero.serving.stored import ResponseStore

TOOL: Any = {
    "type": "function",
    "name": "lookup",
    "parameters": {
        "type": "object",
        "properties": {"word": {"enum": ["llama", "mule"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture(scope="module")
def client(server: Any) -> openai.OpenAI:
    return client_of(server)


def client_of(server: Any) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=server.info.url + "/v1",
        api_key=server.info.key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )


def test_the_same_conversation_has_the_same_answer_as_in_the_chat(client: openai.OpenAI, server: Any) -> None:
    made = client.responses.create(
        model="tiny", instructions="Sé breve.", input="hello", max_output_tokens=8, temperature=0
    )
    chat = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "system", "content": "Sé breve."}, {"role": "user", "content": "hello"}],
        max_tokens=8,
        temperature=0,
    )
    assert made.output_text == chat.choices[0].message.content
    assert chat.usage is not None and made.usage is not None
    assert made.usage.input_tokens == chat.usage.prompt_tokens
    assert made.usage.output_tokens == chat.usage.completion_tokens
    expected = {"length": "incomplete", "stop": "completed"}[chat.choices[0].finish_reason]
    assert made.status == expected


def test_the_events_of_a_stream(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "input": "hello", "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(**options)
    events = list(client.responses.create(**options, stream=True))
    kinds = [e.type for e in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", f"response.{whole.status}",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text
    last: Any = events[-1]
    assert last.response.output_text == whole.output_text
    assert last.response.usage == whole.usage
    created: Any = events[0]
    assert created.response.id == last.response.id
    assert created.response.usage is None


def test_the_clients_own_helper_follows_the_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tiny", input="hello", max_output_tokens=5, temperature=0) as stream:
        for _ in stream:
            pass
    whole = client.responses.create(model="tiny", input="hello", max_output_tokens=5, temperature=0)
    assert whole.output_text


def test_logprobs(client: openai.OpenAI) -> None:
    made = client.responses.create(
        model="tiny", input="hello", max_output_tokens=5, temperature=0, top_logprobs=2,
        include=["message.output_text.logprobs"],
    )  # fmt: skip
    part: Any = made.output[0].content[0]  # type: ignore[union-attr, index]
    assert made.usage is not None
    assert len(part.logprobs) == made.usage.output_tokens
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)


def test_a_conversation_goes_on_from_what_is_stored(client: openai.OpenAI, server: Any) -> None:
    options: dict[str, Any] = {"model": "tiny", "max_output_tokens": 6, "temperature": 0}
    first = client.responses.create(input="hello", **options)
    second = client.responses.create(input="and?", previous_response_id=first.id, **options)
    by_hand: Any = [{"role": "user", "content": "hello"}, *[o.model_dump() for o in first.output], {"role": "user", "content": "and?"}]  # fmt: skip
    assert client.responses.create(input=by_hand, **options).output_text == second.output_text
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="keeps the last 256"):
        client.responses.create(input="and?", previous_response_id=first.id, **options)
    unkept = client.responses.create(input="hello", store=False, **options)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_tools(roomy: Any) -> None:
    pytest.importorskip("llguidance")
    client = client_of(roomy)
    options: dict[str, Any] = {
        "model": "tiny", "input": "hello", "tools": [TOOL], "tool_choice": "required", "seed": 1,
        "parallel_tool_calls": False,
    }  # fmt: skip
    extra = {"seed": options.pop("seed")}
    made = client.responses.create(**options, extra_body=extra)
    (call,) = [item for item in made.output if item.type == "function_call"]
    assert call.name == "lookup"
    assert json.loads(call.arguments)["word"] in ("llama", "mule")
    events = list(client.responses.create(**options, extra_body=extra, stream=True))
    streamed = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    assert streamed == call.arguments
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "an animal"}]
    after = client.responses.create(
        model="tiny", input=result, previous_response_id=made.id, max_output_tokens=4
    )
    assert after.output_text is not None


def test_a_schema_for_the_text(client: openai.OpenAI) -> None:
    pytest.importorskip("llguidance")
    schema = {
        "type": "object",
        "properties": {"a": {"enum": [1, 2]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form: Any = {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}}
    made = client.responses.create(model="tiny", input="hello", text=form, max_output_tokens=50)
    assert json.loads(made.output_text)["a"] in (1, 2)
    assert made.status == "completed"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, ["input"]),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, ["input.0"]),
        ({"background": True}, ["background", "not supported"]),
        ({"reasoning": {"effort": "high"}}, ["reasoning", "not supported"]),
        ({"tools": [{"type": "web_search"}]}, ["tools.0"]),
        ({"max_output_tokens": 100_000}, ["max_tokens"]),
        ({"input": "x" * 600}, ["context holds 512"]),
        ({"instruction": "x"}, ["did you mean 'instructions'"]),
    ],
)
def test_wrong_requests_say_which_field(server: Any, fields: dict[str, Any], words: list[str]) -> None:
    response = server.http.post("/v1/responses", json={"model": "tiny", "input": "a"} | fields)
    assert response.status_code == 400, response.text
    for word in words:
        assert word in response.json()["error"]["message"]


def test_a_failure_in_a_stream_is_an_event(start: Any, endless: Any) -> None:
    server = start(endless())
    step, count = server.engine.step, iter(range(100))

    def failing() -> Any:
        if next(count) == 3:
            raise RuntimeError("a fault")
        return step()

    server.engine.step = failing
    client = openai.OpenAI(
        base_url=server.info.url + "/v1", api_key=server.info.key, http_client=httpx.Client(trust_env=False)
    )
    last: Any = list(client.responses.create(model="tiny", input="a", stream=True))[-1]
    assert last.type == "response.failed"
    assert "fault" not in last.response.error.message


def test_the_store_is_bounded() -> None:
    store = ResponseStore(3, max_bytes=10_000)
    for number in range(5):
        store.put({"id": f"r{number}"}, [Message(role="user", content="a")])
    assert [store.get(f"r{n}") is None for n in range(5)] == [True, True, False, False, False]
    store.put({"id": "big"}, [Message(role="user", content="a" * 9_700)])
    assert store.get("r3") is None
    assert store.get("r4") is not None
    assert store.get("big") is not None
    store.put({"id": "huge"}, [Message(role="user", content="a" * 10_001)])
    assert store.get("huge") is None
    assert store.drop("big")
    assert not store.drop("big")
    assert store.drop("r4")
    assert len(store) == 0
    assert store._bytes == 0
    nothing = ResponseStore(0)
    nothing.put({"id": "r"}, [])
    assert nothing.get("r") is None
