"""A client of the server, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from arriero.errors import ArrieroError

TIMEOUT_SECONDS = 120.0
"""Longest silence of the server; it sends a comment every ten seconds while it computes."""


@dataclass(frozen=True)
class Answer:
    """An answer, and how it came. ``tokens`` are the answer's; ``seconds`` run from the question to its last token."""

    text: str
    finish_reason: str
    prompt_tokens: int
    tokens: int
    seconds: float
    first_token_seconds: float
    url: str

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first one, over the time after the first one."""
        after = self.seconds - self.first_token_seconds
        return (self.tokens - 1) / after if self.tokens > 1 and after > 0 else 0.0


def ask(
    base_url: str,
    key: str | None,
    question: str,
    *,
    model: str | None = None,
    max_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> Answer:
    """Ask a server one question over HTTP, streaming; ``model`` is by default the first that it serves.

    Raises:
        ArrieroError: no server there, or it refuses (its own message is passed on).
    """
    if model is None:
        model = str(get_json(base_url, key, "/v1/models")["data"][0]["id"])
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    first = 0.0
    text, reason, usage = "", "", {"prompt_tokens": 0, "completion_tokens": 0}
    for chunk in post_stream(base_url, key, "/v1/chat/completions", body):
        if chunk.get("usage"):
            usage = chunk["usage"]
        for choice in chunk["choices"]:
            if choice["delta"].get("content"):
                first = first or time.perf_counter() - started
                text += choice["delta"]["content"]
            reason = choice["finish_reason"] or reason
    seconds = time.perf_counter() - started
    return Answer(
        text, reason, usage["prompt_tokens"], usage["completion_tokens"], seconds, first or seconds, base_url
    )


def wait_healthy(base_url: str, timeout: float = 30.0) -> None:
    """Wait until the server says that its engine is well.

    Raises:
        ArrieroError: it did not within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            if get_json(base_url, None, "/health")["status"] == "ok":
                return
        except ArrieroError as error:
            if time.monotonic() > deadline:
                raise ArrieroError(
                    f"the server at {base_url} did not come up in {timeout:g} s: {error}"
                ) from None
        time.sleep(0.05)


def demo_question(folder: Path, question: str, *, device: str = "cpu", **options: Any) -> Answer:
    """Serve a model folder on a free loopback port, ask one question over HTTP, and stop the server.

    ``device`` is as for Engine.load; ``options`` are those of :func:`ask`.

    Raises:
        ArrieroError: the extra is missing, there is no model, or the server refuses.
    """
    from arriero.inference.engine import Engine
    from arriero.serving.server import ServerOptions, model_name, need_extra, serving

    need_extra()
    engine = Engine.load(folder, max_batch=1, device=device)
    with serving(engine, model_name(folder), ServerOptions(port=0)) as (info, _):
        wait_healthy(info.url)
        return ask(info.url, info.key, question, model=info.model, **options)


def post_json(base_url: str, key: str | None, path: str, body: Any) -> Any:
    """What the server answers to a POST.

    Raises:
        ArrieroError: no server there, it refuses, or the answer is no JSON.
    """
    connection = _connect(base_url)
    try:
        return json.loads(_request(connection, "POST", path, key, body).read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ArrieroError(f"the server's answer to {path} cannot be read: {error}") from None
    finally:
        connection.close()


def _connect(base_url: str) -> http.client.HTTPConnection:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ArrieroError(
            f"'{base_url}' is no address of a server: it should look like http://127.0.0.1:8000"
        )
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS)


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, key: str | None, body: Any = None
) -> http.client.HTTPResponse:
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise ArrieroError(f"no answer from {connection.host} port {connection.port}: {error}") from None
    if response.status != 200:
        raise ArrieroError(f"the server refuses ({response.status}): {_error_message(response.read())}")
    return response


def _error_message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def get_json(base_url: str, key: str | None, path: str) -> Any:
    """What the server answers to a GET.

    Raises:
        ArrieroError: no server there, or it refuses.
    """
    connection = _connect(base_url)
    try:
        return json.loads(_request(connection, "GET", path, key).read())
    finally:
        connection.close()


def post_stream(base_url: str, key: str | None, path: str, body: Any) -> Iterator[Any]:
    """The JSON values of a stream of server-sent events.

    Raises:
        ArrieroError: the stream ends before its end mark, or holds an error.
    """
    connection = _connect(base_url)
    try:
        for line in _request(connection, "POST", path, key, body):
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                return
            value = json.loads(data)
            if "error" in value:
                raise ArrieroError(f"the server broke off: {value['error']['message']}")
            yield value
        raise ArrieroError("the server's answer ends too early")
    except (OSError, http.client.HTTPException) as error:
        raise ArrieroError(f"the connection to the server broke: {error}") from None
    finally:
        connection.close()
