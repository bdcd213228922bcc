"""OpenAI's own client against `arriero serve` as a program: chat, stream, tools, JSON schema, log-probabilities,
embeddings, responses, completions; and the program's way to start and to end."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

openai = pytest.importorskip("openai")
pytestmark = [pytest.mark.parity, pytest.mark.slow]  # it starts the program several times

ASK: Any = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["ann", "bob"]}},
    "required": ["name"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "lookup", "parameters": SCHEMA, "strict": True}}


def model_folder(folder: Path) -> Path:
    """A random model that writes bytes, large enough in context for tools told in words."""
    path = Path(__file__).parents[1] / "inference" / "conftest.py"
    spec = importlib.util.spec_from_file_location("arriero_engine_helpers", path)
    assert spec is not None and spec.loader is not None
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    from arriero.models.checkpoint import save_model

    folder.mkdir()
    save_model(helpers.tiny_model(context_length=2048), folder)
    helpers.byte_tokenizer().save(folder)
    return folder


class Program:
    """`arriero serve` and what it announced."""

    def __init__(self, folder: Path, *options: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARRIERO_API_KEY": ""}
        del environment["ARRIERO_API_KEY"]
        command = [sys.executable, "-m", "arriero.cli", "serve", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.lines: list[str] = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        text = "".join(self.lines)
        found = re.search(r"http://127\.0\.0\.1:\d+", text)
        assert found is not None, text + self.process.stderr.read()  # type: ignore[union-attr]
        self.url = found.group()
        key = re.search(r"API key, made for this run: (\S+)", text)
        self.key = key.group(1) if key else None

    def client(self) -> Any:
        return openai.OpenAI(
            base_url=self.url + "/v1", api_key=self.key or "none", max_retries=0, http_client=httpx.Client(trust_env=False)
        )  # fmt: skip

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def program(folder: Path) -> Iterator[Program]:
    running = Program(folder)
    yield running
    running.end()


@pytest.fixture(scope="module")
def client(program: Program) -> Any:
    return program.client()


def test_models_and_a_chat(client: Any) -> None:
    assert [m.id for m in client.models.list()] == ["tiny"]
    made = client.chat.completions.create(model="tiny", messages=ASK, max_tokens=10, n=2, seed=1, user="me")
    assert [c.index for c in made.choices] == [0, 1]
    assert made.choices[0].message.content != made.choices[1].message.content


def test_streams_interleave_their_answers(client: Any) -> None:
    options: dict[str, Any] = {"model": "tiny", "messages": ASK, "max_tokens": 30, "n": 2, "seed": 1}
    whole = client.chat.completions.create(**options)
    texts = ["", ""]
    for chunk in client.chat.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [c.message.content for c in whole.choices]


def test_usage_tells_the_cached_tokens(client: Any) -> None:
    long: Any = [{"role": "user", "content": "x" * 300}]
    used = [client.chat.completions.create(model="tiny", messages=long, max_tokens=1).usage for _ in range(2)]
    assert used[0].prompt_tokens_details.cached_tokens == 0
    assert used[1].prompt_tokens_details.cached_tokens >= 256


def test_a_json_schema(client: Any) -> None:
    pytest.importorskip("llguidance")
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}
    made = client.chat.completions.create(model="tiny", messages=ASK, response_format=form, max_tokens=60)
    assert json.loads(made.choices[0].message.content)["name"] in ("ann", "bob")


def test_tools_with_the_clients_own_helper(client: Any) -> None:
    pytest.importorskip("llguidance")
    options: dict[str, Any] = {"model": "tiny", "messages": ASK, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}  # fmt: skip
    made = client.chat.completions.create(**options, max_tokens=200)
    (call,) = made.choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["name"] in ("ann", "bob")
    with client.chat.completions.stream(**options, max_tokens=200) as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert call.function.name == "lookup"
    assert final.choices[0].finish_reason == "tool_calls"


def test_logprobs(client: Any) -> None:
    made = client.chat.completions.create(
        model="tiny", messages=ASK, max_tokens=4, logprobs=True, top_logprobs=3, temperature=0
    )
    content = made.choices[0].logprobs.content
    assert all(len(token.top_logprobs) == 3 for token in content)
    assert all(token.logprob == token.top_logprobs[0].logprob for token in content)


def test_completions_embeddings_and_responses(client: Any) -> None:
    text = client.completions.create(model="tiny", prompt="ab", echo=True, max_tokens=3, logprobs=1)
    assert text.choices[0].text.startswith("ab")
    vectors = client.embeddings.create(model="tiny", input=["a", "b"], dimensions=5)
    assert [len(entry.embedding) for entry in vectors.data] == [5, 5]
    made = client.responses.create(model="tiny", input="hello", max_output_tokens=5)
    again = client.responses.create(
        model="tiny", input="and?", previous_response_id=made.id, max_output_tokens=5
    )
    assert again.usage.input_tokens > made.usage.input_tokens
    with client.responses.stream(model="tiny", input="hello", max_output_tokens=5) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")


def test_errors_are_the_clients_own(client: Any, program: Program) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'temperature'"):
        client.chat.completions.create(model="tiny", messages=ASK, extra_body={"temprature": 1})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=ASK)
    wrong = openai.OpenAI(
        base_url=program.url + "/v1", api_key="x", http_client=httpx.Client(trust_env=False)
    )
    with pytest.raises(openai.AuthenticationError):
        wrong.models.list()


# ---------------------------------------------------------------- starting and ending


def endless(program: Program, tokens: int, text: list[str]) -> None:
    stream = program.client().chat.completions.create(
        model="tiny", messages=ASK, max_tokens=tokens, stream=True, extra_body={"ignore_eos": True}
    )
    for chunk in stream:
        text.append(chunk.choices[0].finish_reason or "")


def test_the_first_signal_drains_and_tells_newcomers(folder: Path) -> None:
    program = Program(folder)
    try:
        reasons: list[str] = []
        asking = threading.Thread(target=endless, args=(program, 1500, reasons))
        asking.start()
        while not reasons:
            time.sleep(0.01)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        headers = {"Authorization": f"Bearer {program.key}"}
        body = {"model": "tiny", "messages": ASK}
        refused = httpx.post(
            program.url + "/v1/chat/completions", json=body, headers=headers, trust_env=False
        )  # a new connection
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert httpx.get(program.url + "/health", trust_env=False).json()["status"] == "draining"
        asking.join(60)
        assert reasons[-1] == "length"
        assert program.process.wait(20) == 0
        assert program.process.stderr is not None
        assert program.process.stderr.read() == ""
    finally:
        program.end()


def test_a_second_signal_ends_at_once(folder: Path) -> None:
    program = Program(folder)
    try:
        reasons: list[str] = []
        asking = threading.Thread(target=_until_it_breaks, args=(program, reasons))
        asking.start()
        while not reasons:
            time.sleep(0.01)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        program.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        program.process.wait(10)
        assert time.monotonic() - begun < 5
        asking.join(10)
    finally:
        program.end()


def _until_it_breaks(program: Program, reasons: list[str]) -> None:
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        endless(program, 2000, reasons)
        raise httpx.ReadError("it ended by itself")


def test_an_open_door_is_loud(folder: Path) -> None:
    program = Program(folder, "--no-key")
    try:
        assert any("WARNING: no API key" in line for line in program.lines)
        assert program.client().models.list().data[0].id == "tiny"
    finally:
        program.end()
