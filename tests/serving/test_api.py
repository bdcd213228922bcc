"""The API as OpenAI's own client and plain HTTP see it."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import openai
import pytest

QUESTION: list[Any] = [
    {"role": "system", "content": "Sé breve."},
    {"role": "user", "content": "¿Qué tal? 🦙"},
]


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 5, "temperature": 0.9, "top_p": 0.95}])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, options: dict[str, Any]) -> None:
    whole = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=60, **options)
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            max_completion_tokens=60,
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({c.id for c in chunks}) == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert all(c.usage is None for c in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.completion_tokens <= 60


def test_no_usage_in_a_stream_unless_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=5, stream=True))
    assert all(c.usage is None and c.choices for c in chunks)


def test_logprobs(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(model="tiny", messages=QUESTION, **options)
    assert whole.choices[0].logprobs is not None
    content = whole.choices[0].logprobs.content
    assert content is not None
    assert whole.usage is not None
    assert len(content) == whole.usage.completion_tokens
    for token in content:
        assert token.logprob == max(t.logprob for t in token.top_logprobs)
        assert len(token.top_logprobs) == 3
        assert sum(math.exp(t.logprob) for t in token.top_logprobs) <= 1 + 1e-9
    stream = client.chat.completions.create(model="tiny", messages=QUESTION, stream=True, **options)
    streamed = [c.choices[0].logprobs.content for c in stream if c.choices and c.choices[0].logprobs]
    assert [t for part in streamed for t in part or []] == content


def test_parts_of_text_are_one_text(server: Any) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    answers = [server.chat(content, temperature=0).json() for content in ("hello", parts)]
    assert answers[0]["choices"] == answers[1]["choices"]


def test_an_answer_can_be_sent_back_as_it_came(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=5)
    again = [*QUESTION, first.choices[0].message, {"role": "user", "content": "y?"}]
    assert client.chat.completions.create(model="tiny", messages=again, max_tokens=5).choices
    tools = [*QUESTION, {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]
    with pytest.raises(openai.BadRequestError, match="tool_calls"):
        client.chat.completions.create(model="tiny", messages=tools, max_tokens=5)


def test_the_shape_of_a_whole_answer(server: Any) -> None:
    body = server.chat(temperature=0).json()
    assert set(body) == {"id", "object", "created", "model", "choices", "usage"}
    assert body["object"] == "chat.completion"
    choice = body["choices"][0]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"]["role"] == "assistant"
    assert choice["logprobs"] is None


# ---------------------------------------------------------------- errors


def check_error(response: httpx.Response, status: int, *words: str, param: str | None = None) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"]
    assert "\n" not in error["message"]
    if param is not None:
        assert error["param"] == param


@pytest.mark.parametrize(
    ("fields", "words", "param"),
    [
        ({"functions": [{"name": "f"}]}, ["functions", "not supported"], "functions"),
        ({"n": 0}, ["'n'", "greater"], "n"),
        ({"n": 129}, ["'n'", "less"], "n"),
        ({"logit_bias": {"x": 1}}, ["logit_bias", "no token id"], "logit_bias"),
        ({"logit_bias": {"5": 101}}, ["logit_bias"], "logit_bias.5"),
        ({"logit_bias": {"99999": 1}}, ["logit_bias"], "logit_bias"),
        ({"response_format": {"type": "xml"}}, ["response_format"], "response_format"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            ["pattern"],
            "tools.0.function.name",
        ),
        ({"tool_choice": "required"}, ["tools"], "tool_choice"),
        ({"min_tokens": 9}, ["min_tokens", "limit of 8"], "min_tokens"),
        (
            {"guided_regex": "a", "response_format": {"type": "json_object"}},
            ["one grammar"],
            "response_format",
        ),
        ({"guided_regex": "("}, ["grammar"], "response_format"),
        ({"temprature": 1}, ["temprature", "did you mean 'temperature'"], "temprature"),
        ({"temperature": 3}, ["temperature", "less than or equal to 2"], "temperature"),
        ({"temperature": "hot"}, ["temperature"], "temperature"),
        ({"max_tokens": 0}, ["max_tokens"], "max_tokens"),
        ({"max_tokens": 100000}, ["max_tokens 100,000", "at most"], "max_tokens"),
        ({"stop": ""}, ["stop"], "stop"),
        ({"stop": [1]}, ["stop"], None),
        ({"messages": []}, ["messages"], "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, ["messages.0.role"], "messages.0.role"),
        ({"messages": [{"role": "user"}]}, ["messages.0.content"], "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, ["messages.0.content"], "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, ["messages.0.content"], None),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, ["surrogate"], None),
        ({"model": "\udfff"}, ["surrogate"], None),
        ({"stream_options": {"include_usage": True}}, ["stream_options"], "stream_options"),
        ({"top_logprobs": 3}, ["logprobs"], "top_logprobs"),
        ({"seed": 1.5}, ["seed"], "seed"),
        ({"model": None}, ["model"], "model"),
    ],
)
def test_wrong_requests_say_which_field(
    server: Any, fields: dict[str, Any], words: list[str], param: str | None
) -> None:
    check_error(server.chat(**fields), 400, *words, param=param)


def test_harmless_fields_are_accepted(server: Any) -> None:
    fields: dict[str, Any] = {
        "user": "me",
        "metadata": {"a": "b"},
        "n": 1,
        "tools": None,
        "tool_choice": "none",
        "logit_bias": {},
        "response_format": {"type": "text"},
        "store": False,
        "stop": None,
        "parallel_tool_calls": True,
        "stream_options": None,
    }
    assert server.chat(**fields).status_code == 200


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[]", "JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"temperature": NaN}', "NaN"),
        (b'{"a":' * 100_000, "nested"),
        (b"{}", "'model'"),
    ],
)
def test_bodies_that_are_no_request(server: Any, body: bytes, word: str) -> None:
    check_error(server.http.post("/v1/chat/completions", content=body), 400, word)


def test_a_prompt_that_does_not_fit_the_context(server: Any) -> None:
    response = server.chat("x" * 600)
    check_error(response, 400, "the context holds 512", param="messages")
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_without_max_tokens_the_answer_fits_by_itself(server: Any) -> None:
    response = server.chat("x" * 440, max_tokens=None, temperature=0)
    assert response.status_code == 200
    assert response.json()["usage"]["total_tokens"] <= 512


def test_an_unknown_model(server: Any, client: openai.OpenAI) -> None:
    check_error(server.chat(model="gpt-9"), 404, "gpt-9", "tiny", param="model")
    check_error(server.http.get("/v1/models/gpt-9"), 404, "gpt-9")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=QUESTION)


def test_unknown_paths_and_methods(server: Any) -> None:
    check_error(server.http.get("/v1/nothing"), 404, "/v1/nothing")
    check_error(server.http.get("/v1/chat/completions"), 405)


def test_a_body_over_the_limit(start: Any) -> None:
    server = start(max_body=2000)
    check_error(server.chat("x" * 3000), 413, "2,000 bytes")
    pieces = (
        json.dumps({"x": "y" * 400}).encode() for _ in range(9)
    )  # sent in chunks, of no declared length
    check_error(server.http.post("/v1/chat/completions", content=pieces), 413, "2,000 bytes")
    assert server.chat("x").status_code == 200


# ---------------------------------------------------------------- who may come in


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic c2stdGVzdA==", "sk-test"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/v1/chat/completions"])
def test_no_way_in_without_the_key(server: Any, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    response = httpx.get(server.info.url + path, headers=headers, trust_env=False)
    check_error(response, 401, "key")
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_the_client_names_a_wrong_key(server: Any) -> None:
    wrong = openai.OpenAI(
        base_url=server.info.url + "/v1", api_key="nope", http_client=httpx.Client(trust_env=False)
    )
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


def test_a_key_in_the_query_does_not_count(server: Any) -> None:
    assert httpx.get(f"{server.info.url}/v1/models?key={server.info.key}", trust_env=False).status_code == 401


def test_the_page_and_health_need_no_key(server: Any) -> None:
    page = httpx.get(server.info.url, trust_env=False)
    assert page.status_code == 200
    assert server.info.key not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(server.info.url + "/health", trust_env=False).json()["status"] == "ok"


def test_other_hosts_and_other_pages_are_refused(server: Any) -> None:
    check_error(server.http.get("/v1/models", headers={"Host": "evil.example:80"}), 403, "evil.example")
    check_error(server.http.get("/", headers={"Host": "127.0.0.1.evil.example"}), 403)
    check_error(server.http.get("/v1/models", headers={"Origin": "https://evil.example"}), 403, "web pages")
    check_error(server.http.get("/v1/models", headers={"Origin": "null"}), 403)
    own = server.http.get("/v1/models", headers={"Origin": server.info.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers
    port = server.info.url.rpartition(":")[2]
    assert server.http.get("/v1/models", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_no_key_lets_everyone_in(start: Any) -> None:
    server = start(api_key=None, no_key=True)
    assert server.info.key is None
    assert "#" not in server.info.page
    assert server.chat().status_code == 200
