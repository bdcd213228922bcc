"""A crowd of clients, good and bad, for as long as a test wants; each says at once when an answer is wrong."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx

SEEDS = 8
"""So many different questions are asked, whose answers are known beforehand."""
BUSY = (429, 503)


class Crowd:
    """``clients`` threads that ask one server till the time is up.

    Attributes:
        seen: how often each kind of client came to each status.
    """

    def __init__(self, url: str, key: str, *, schemas: bool) -> None:
        self.url, self.key = url, key
        self.headers = {"Authorization": f"Bearer {key}"}
        self.seen: Counter[tuple[str, int]] = Counter()
        self._lock = threading.Lock()
        self._expected = [self.answer(seed) for seed in range(SEEDS)]
        self._kinds: list[Callable[[httpx.Client, random.Random], int]] = [
            self.whole, self.whole, self.streamed, self.streamed, self.scored, self.vectors, self.slow, self.leaver,
            self.impatient, self.oversized, self.malformed, self.wrong_key, self.bad_utf8, self.raw_noise,
        ]  # fmt: skip
        if schemas:
            self._kinds += [self.formed, self.impossible]

    def run(self, clients: int, seconds: float) -> None:
        """Go on for so long; raises what the first client finds wrong."""
        until = time.monotonic() + seconds
        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(self._client, number, until) for number in range(clients)]:
                done.result()

    def _client(self, number: int, until: float) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=self.url, headers=self.headers, timeout=60, trust_env=False) as http:
            while time.monotonic() < until:
                kind = self._kinds[rng.randrange(len(self._kinds))]
                status = kind(http, rng)
                with self._lock:
                    self.seen[kind.__name__, status] += 1
                if status in BUSY:
                    time.sleep(0.05)

    # ------------------------------------------------------------ good clients

    def body(self, seed: int, **fields: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"question {seed}"}]
        return {
            "model": "tiny",
            "messages": messages,
            "max_tokens": 12,
            "seed": seed,
            "temperature": 0.8,
        } | fields

    def answer(self, seed: int) -> str:
        """The answer to a question when nobody else asks."""
        response = httpx.post(
            f"{self.url}/v1/chat/completions", json=self.body(seed), headers=self.headers, trust_env=False, timeout=60
        )  # fmt: skip
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])

    def whole(self, http: httpx.Client, rng: random.Random) -> int:
        seed = rng.randrange(SEEDS)
        response = http.post("/v1/chat/completions", json=self.body(seed))
        if response.status_code == 200:
            assert response.json()["choices"][0]["message"]["content"] == self._expected[seed]
        return self.checked(response, 200)

    def streamed(self, http: httpx.Client, rng: random.Random, pause: float = 0.0) -> int:
        seed = rng.randrange(SEEDS)
        text = ""
        with http.stream("POST", "/v1/chat/completions", json=self.body(seed, stream=True)) as response:
            if response.status_code != 200:
                response.read()
                return self.checked(response, 200)
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    text += event["choices"][0]["delta"].get("content", "")
                time.sleep(pause)
        assert text == self._expected[seed]
        return 200

    def slow(self, http: httpx.Client, rng: random.Random) -> int:
        return self.streamed(http, rng, pause=0.02)

    def scored(self, http: httpx.Client, rng: random.Random) -> int:
        body = {
            "model": "tiny",
            "prompt": ["abc", "defg"],
            "max_tokens": 1,
            "echo": True,
            "logprobs": 1,
            "temperature": 0,
        }
        response = http.post("/v1/completions", json=body)
        if response.status_code == 200:
            assert [len(c["logprobs"]["tokens"]) for c in response.json()["choices"]] == [4, 5]
        return self.checked(response, 200)

    def vectors(self, http: httpx.Client, rng: random.Random) -> int:
        response = http.post("/v1/embeddings", json={"model": "tiny", "input": ["a", "b c"]})
        if response.status_code == 200:
            assert len(response.json()["data"]) == 2
        return self.checked(response, 200)

    def formed(self, http: httpx.Client, rng: random.Random) -> int:
        schema = {
            "type": "object",
            "properties": {"a": {"enum": [1, 2]}},
            "required": ["a"],
            "additionalProperties": False,
        }
        response = http.post("/v1/chat/completions", json=self.body(1, guided_json=schema, max_tokens=60))
        if response.status_code == 200:
            assert json.loads(response.json()["choices"][0]["message"]["content"])["a"] in (1, 2)
        return self.checked(response, 200)

    # ------------------------------------------------------------ bad ones

    def leaver(self, http: httpx.Client, rng: random.Random) -> int:
        """Goes in the middle of a stream."""
        body = self.body(0, stream=True, max_tokens=400, ignore_eos=True)
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            for number, _ in enumerate(response.iter_lines()):
                if number >= rng.randrange(6):
                    break
            return response.status_code

    def impatient(self, http: httpx.Client, rng: random.Random) -> int:
        """Goes before there is an answer, wherever the request may be then."""
        try:
            body = self.body(0, max_tokens=400, ignore_eos=True)
            return http.post("/v1/chat/completions", json=body, timeout=rng.uniform(0.01, 0.3)).status_code
        except httpx.TimeoutException:
            return 0

    def oversized(self, http: httpx.Client, rng: random.Random) -> int:
        try:
            return self.checked(http.post("/v1/chat/completions", content=b"x" * (1 << 21)), 413)
        except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
            return 0  # the server need not read what it will not take

    def malformed(self, http: httpx.Client, rng: random.Random) -> int:
        bodies = [b"{", b"[]", b"null", b'{"model": "tiny"}', b'{"model": 5, "messages": []}', b"[" * 100_000]
        path = rng.choice(["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"])
        return self.checked(http.post(path, content=rng.choice(bodies)), 400)

    def impossible(self, http: httpx.Client, rng: random.Random) -> int:
        form = rng.choice([{"guided_regex": "("}, {"guided_json": {"type": "no such type"}}])
        return self.checked(http.post("/v1/chat/completions", json=self.body(0, **form)), 400)

    def wrong_key(self, http: httpx.Client, rng: random.Random) -> int:
        return self.checked(http.get("/v1/models", headers={"Authorization": "Bearer no"}), 401)

    def bad_utf8(self, http: httpx.Client, rng: random.Random) -> int:
        return self.checked(http.post("/v1/chat/completions", content=b'{"model": "\xff\xfe"}'), 400)

    def raw_noise(self, http: httpx.Client, rng: random.Random) -> int:
        """Bytes that are no HTTP, or half of a request."""
        parts = urlsplit(self.url)
        noise = rng.choice(
            [
                b"\x16\x03\x01\x00",
                b"GET / HTTP/9.9\r\n\r\n",
                b"POST /v1/models HTTP/1.1\r\nHost:",
                rng.randbytes(64),
            ]
        )
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as sock:
            sock.sendall(noise)
        return 0

    def checked(self, response: httpx.Response, expected: int) -> int:
        """The status, which must be the expected one or say that the server is busy; errors have OpenAI's shape."""
        status = response.status_code
        assert status in (expected, *BUSY), (status, response.text[:500])
        if status >= 400:
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert "Traceback" not in error["message"]
        if status in BUSY:
            assert int(response.headers["Retry-After"]) > 0
        return status
