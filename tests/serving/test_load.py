"""Many clients, clients that leave, engines that fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_empty(server: Any) -> bool:
    health = server.health()
    return (health["open"], health["running"], health["waiting"], server.engine.pool.used) == (0, 0, 0, 0)


def stream_text(server: Any, **fields: Any) -> str:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True} | fields
    text = ""
    with server.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert line == "data: [DONE]" or not line
    return text


def test_sixteen_clients_get_their_own_answers(start: Any) -> None:
    server = start(max_batch=4)

    def one(seed: int) -> str:
        options = {"seed": seed, "max_tokens": 40, "temperature": 0.8}
        if seed % 2:
            return stream_text(server, **options)
        return str(server.chat("hi", **options).json()["choices"][0]["message"]["content"])

    alone = [one(seed) for seed in range(4)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(one, [i % 4 for i in range(16)]))
    assert together == alone * 4
    assert len(set(alone)) == 4
    assert is_empty(server)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(start: Any, endless: Any, stream: bool) -> None:
    server = start(endless(), max_batch=1)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3000,
        "stream": stream,
    }
    for _ in range(3):
        client = httpx.Client(base_url=server.info.url, headers=server.http.headers, trust_env=False)
        if stream:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                wait_for(lambda: server.health()["running"] == 1)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=body, timeout=0.3)
        client.close()
        wait_for(lambda: is_empty(server))
    assert server.chat(max_tokens=4).json()["choices"][0]["message"]["content"] == "aaaa"


def test_a_client_that_leaves_the_queue_is_forgotten(start: Any, endless: Any) -> None:
    server = start(endless(), max_batch=1)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3000,
        "stream": True,
    }
    with server.http.stream("POST", "/v1/chat/completions", json=body) as first:
        lines = first.iter_lines()  # closing the iterator would close the connection
        next(lines)
        with httpx.Client(base_url=server.info.url, headers=server.http.headers, trust_env=False) as other:
            with other.stream("POST", "/v1/chat/completions", json=body):
                wait_for(lambda: server.health()["waiting"] == 1)
            wait_for(lambda: server.health()["waiting"] == 0)
        assert server.health()["running"] == 1
    wait_for(lambda: is_empty(server))


def test_a_full_queue_says_when_to_come_back(start: Any, endless: Any) -> None:
    server = start(endless(), max_batch=1, max_queue=1)
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 3000,
        "stream": True,
    }
    with (
        server.http.stream("POST", "/v1/chat/completions", json=body),
        server.http.stream("POST", "/v1/chat/completions", json=body),
    ):
        wait_for(lambda: server.health()["open"] == 2)
        refused = server.chat()
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.json()["error"]["code"] == "queue_full"
    wait_for(lambda: is_empty(server))
    assert server.chat().status_code == 200


def test_a_step_that_fails_ends_its_requests_and_nothing_else(start: Any, endless: Any) -> None:
    server = start(endless(0.0))
    step, fail = server.engine.step, threading.Event()

    def failing() -> Any:
        if fail.is_set():
            fail.clear()
            raise RuntimeError("a fault")
        return step()

    server.engine.step = failing
    fail.set()
    response = server.chat()
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "server_error"
    assert "fault" not in response.text
    assert server.chat().status_code == 200
    assert is_empty(server)


def test_health_tells_a_stalled_and_a_dead_engine(start: Any, endless: Any) -> None:
    server = start(endless(0.0))
    server.server.worker._stall_seconds = 0.2
    step, hold = server.engine.step, threading.Event()
    server.engine.step = lambda: hold.wait(10) and step()
    asking = threading.Thread(target=server.chat)
    asking.start()
    wait_for(lambda: server.http.get("/health").status_code == 503)
    assert server.health()["status"] == "stalled"
    hold.set()
    asking.join()
    wait_for(lambda: server.health()["status"] == "ok")
    server.server.worker.stop()
    assert server.health()["status"] == "dead"
    assert server.chat().status_code == 503


def test_silence_is_kept_alive(start: Any, endless: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from arriero.serving import stream

    monkeypatch.setattr(stream.EventStream.__init__, "__defaults__", (0.05,))
    server = start(endless(0.3))
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "stream": True}
    lines = server.http.post("/v1/chat/completions", json=body).text.split("\n")
    assert ": keep-alive" in lines
    assert lines[-3] == "data: [DONE]"


def test_draining_finishes_what_runs_and_refuses_what_comes(start: Any, endless: Any) -> None:
    server = start(endless())
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(stream_text(server, max_tokens=60)))
    asking.start()
    wait_for(lambda: server.health()["running"] == 1)
    server.server.drain()
    assert server.chat().status_code == 503
    assert server.http.get("/health").status_code == 503
    asking.join()
    assert answers == ["a" * 60]
