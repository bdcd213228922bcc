"""Many clients, clients that leave, engines that fail."""

from __future__ import annotations

import gc
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from arriero.cost.allocator import return_freed_memory
from arriero.cost.procfs import resident_bytes


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_empty(server: Any) -> bool:
    health = server.health()
    used = server.engine.counters.blocks_used  # those that only the prefix cache keeps left out
    return (health["open"], health["running"], health["waiting"], used) == (0, 0, 0, 0)


def asking(**fields: Any) -> dict[str, Any]:
    """A request for a long answer, piece by piece."""
    hi = [{"role": "user", "content": "hi"}]
    return {"model": "tiny", "messages": hi, "max_tokens": 3000, "stream": True, **fields}


def stream_text(server: Any, **fields: Any) -> str:
    body = asking(**fields)
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
    body = asking(stream=stream)
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
    body = asking()
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
    body = asking()
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

    monkeypatch.setattr(stream, "KEEP_ALIVE_SECONDS", 0.05)
    server = start(endless(0.3))
    body = asking(max_tokens=2)
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


# ---------------------------------------------------------------- a crowd


def crowd_for(start: Any, seconds: float, warm_up: float) -> None:
    """64 clients, good and bad: no wrong answer, nothing left behind, no memory that grows with the time."""
    server = start(max_batch=16, max_queue=24)
    crowd = crowd_of(server)
    crowd.run(64, warm_up)
    wait_for(lambda: is_empty(server), 30)
    before = resident()
    crowd.run(64, seconds)
    wait_for(lambda: is_empty(server), 30)
    after = resident()
    server.engine.check_integrity()
    worker = server.server.worker
    assert not worker._tickets and not worker._ids and not worker._watch._last and not worker._watch._started
    assert not worker.desk.open and worker.desk.idle
    kinds = {kind for kind, _ in crowd.seen}
    assert {
        "whole",
        "streamed",
        "slow",
        "leaver",
        "impatient",
        "wrong_key",
        "malformed",
        "oversized",
    } <= kinds
    assert sum(count for (kind, status), count in crowd.seen.items() if status == 200) >= 20
    assert not any(status == 500 for _, status in crowd.seen)
    assert server.health()["status"] == "ok"
    assert server.chat(max_tokens=3).status_code == 200
    grown = (after - before) / 2**20
    assert grown < 64, f"{grown:.0f} MiB more after {seconds:g} s: {crowd.seen}"


def crowd_of(server: Any) -> Any:
    path = Path(__file__).parent / "crowd.py"
    spec = importlib.util.spec_from_file_location("arriero_crowd", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    schemas = importlib.util.find_spec("llguidance") is not None
    return module.Crowd(server.info.url, server.info.key, schemas=schemas)


def resident() -> int:
    """Bytes, after what can be given back was given back."""
    gc.collect()
    return_freed_memory()
    return resident_bytes()


@pytest.mark.slow
def test_a_crowd_for_a_moment(start: Any) -> None:
    crowd_for(start, 3.0, 1.5)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_crowd_for_five_minutes(start: Any) -> None:
    crowd_for(start, 300.0, 30.0)


def test_a_reader_that_stops_reading_is_cut_off(start: Any, endless: Any, monkeypatch: Any) -> None:
    from arriero.serving import server as server_module
    from arriero.serving import stream

    monkeypatch.setattr(stream, "STUCK_SECONDS", 0.3)
    listen = server_module.listen

    def with_a_small_buffer(host: str, port: int) -> socket.socket:
        sock = listen(host, port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)  # what it accepts inherits it
        return sock

    monkeypatch.setattr(server_module, "listen", with_a_small_buffer)
    server = start(endless(0.0, context_length=65536), max_batch=2)
    host, port = server.info.url.removeprefix("http://").split(":")
    body = json.dumps(asking(max_tokens=60_000, logprobs=True, top_logprobs=5)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.info.key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((host, int(port)))
        sock.sendall(head.encode() + body)
        assert sock.recv(10)
        wait_for(lambda: server.health()["open"] == 1)
        wait_for(lambda: is_empty(server), 30)
    assert server.chat(max_tokens=3).status_code == 200


def test_a_head_that_never_ends_is_cut_off(start: Any, monkeypatch: Any) -> None:
    from arriero.serving import http_server

    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    server = start()
    host, port = server.info.url.removeprefix("http://").split(":")
    for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(begun)
            assert sock.recv(100) in (b"",)
    assert server.health()["status"] == "ok"


def test_a_body_that_never_comes_is_given_up(start: Any, monkeypatch: Any) -> None:
    from arriero.serving import stream

    monkeypatch.setattr(stream, "BODY_SECONDS", 0.2)
    server = start()
    host, port = server.info.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.info.key}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(head.encode())
        answer = b""
        while more := sock.recv(4096):  # the connection is closed after it
            answer += more
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"body_timeout"' in answer.replace(b": ", b":")


def test_heads_that_are_too_large(start: Any) -> None:
    server = start()
    for headers in ({"X-Big": "x" * 17_000}, {f"X-{i}": "x" for i in range(120)}):
        refused = server.http.get("/v1/models", headers=headers)
        assert refused.status_code == 431
        assert refused.json()["error"]["code"] == "headers_too_large"
    assert server.http.get("/v1/" + "x" * 3000).status_code == 414
    assert server.health()["status"] == "ok"


def test_the_queue_is_bounded_in_tokens_too(start: Any, endless: Any) -> None:
    server = start(endless(), max_batch=1, max_queue=50, max_queue_tokens=0, max_tokens_total=4096)
    body = asking()
    with server.http.stream("POST", "/v1/chat/completions", json=body) as first:
        lines = first.iter_lines()  # closing the iterator would close the connection
        next(lines)
        refused = server.chat(max_tokens=3000)
        assert refused.status_code == 429
        assert "tokens are open" in refused.json()["error"]["message"]
        assert server.chat(max_tokens=10, model="other").status_code == 404
    wait_for(lambda: is_empty(server))


def test_the_time_limit_ends_an_answer(start: Any, endless: Any) -> None:
    server = start(endless(), max_batch=1, max_seconds=0.5)
    choice = server.chat(max_tokens=3000).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert 0 < len(choice["message"]["content"]) < 3000
    wait_for(lambda: is_empty(server))


def test_any_of_several_keys_opens(start: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("alpha\nbeta\n")
    server = start(api_key=None, key_file=file)
    for key, status in (("alpha", 200), ("beta", 200), ("gamma", 401), ("alph", 401)):
        found = server.http.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert found.status_code == status


def test_a_thread_that_ends_by_a_fault_lets_nobody_wait(start: Any) -> None:
    server = start()
    worker, found, step = server.server.worker, list[Any](), server.engine.step
    server.engine.step = lambda: time.sleep(0.02) or step()
    clients = [
        threading.Thread(target=lambda: found.append(server.chat(max_tokens=400, ignore_eos=True))),
        threading.Thread(
            target=lambda: found.append(
                server.http.post("/v1/embeddings", json={"model": "tiny", "input": "a"})
            )
        ),
    ]
    clients[0].start()
    wait_for(lambda: server.health()["running"] == 1)

    def fault() -> None:
        raise MemoryError("no such detail")

    worker._watch.step = lambda *_: fault()
    worker.desk.engine.step = fault
    clients[1].start()
    for thread in clients:
        thread.join(10)
        assert not thread.is_alive(), "a client waits for an engine that is no more"
    assert {response.status_code for response in found} <= {500, 503}
    assert 500 in {response.status_code for response in found}
    assert "no such detail" not in found[0].text
    wait_for(lambda: server.health()["status"] == "dead")
    assert server.http.get("/health").status_code == 503
    again = server.chat()
    assert again.status_code == 503 and again.json()["error"]["code"] == "engine_dead"
    assert worker.drained, "it can still be stopped"


def test_an_engine_whose_every_step_fails_is_not_healthy(start: Any, endless: Any) -> None:
    server = start(endless(0.0))
    step, fail = server.engine.step, threading.Event()

    def failing() -> Any:
        if fail.is_set():
            raise RuntimeError("a fault")
        return step()

    server.engine.step = failing
    fail.set()
    for _ in range(2):
        assert server.chat().status_code == 500
        assert server.health()["status"] == "ok", "one request may be at fault"
    assert server.chat().status_code == 500
    assert (server.http.get("/health").status_code, server.health()["status"]) == (503, "failing")
    fail.clear()
    assert server.chat().status_code == 200
    assert server.health()["status"] == "ok"
