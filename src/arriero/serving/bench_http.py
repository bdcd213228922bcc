"""Benchmarking a server over HTTP: Arriero's, or any that speaks OpenAI's protocol."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from arriero.errors import ArrieroError
from arriero.serving.bench_engine import Decoding, Progress
from arriero.serving.bench_figures import Record
from arriero.serving.bench_load import Job
from arriero.serving.client import get_json, post_stream


@dataclass(frozen=True)
class Dialect:
    """One way to ask. ``ids``: the prompt goes as token ids, so that its length is exact. ``whole``: the server can be
    told to go on past end tokens, so that the answer's length is exact."""

    path: str
    ids: bool
    whole: bool

    def body(
        self, model: str, job: Job, text: Callable[[list[int]], str], temperature: float
    ) -> dict[str, Any]:
        """The request's body."""
        prompt: Any = job.prompt if self.ids else text(job.prompt)
        chat = self.path.endswith("/chat/completions")
        asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        return {
            "model": model, **asked, "max_tokens": job.answer, "temperature": temperature, "stream": True,
            "stream_options": {"include_usage": True}, **({"ignore_eos": True} if self.whole else {}),
        }  # fmt: skip

    @property
    def words(self) -> str:
        """How it asks, for the report."""
        prompt = "token ids" if self.ids else "text"
        return f"{self.path}, prompts as {prompt}, answers {'of the length drawn' if self.whole else 'may end early'}"


DIALECTS = (
    Dialect("/v1/completions", ids=True, whole=True),
    Dialect("/v1/completions", ids=True, whole=False),
    Dialect("/v1/completions", ids=False, whole=True),
    Dialect("/v1/completions", ids=False, whole=False),
    Dialect("/v1/chat/completions", ids=False, whole=True),
    Dialect("/v1/chat/completions", ids=False, whole=False),
)
"""Best first; the first one that the server takes is used."""


class HttpTarget:
    """Keeps ``concurrency`` requests open, each from a thread of its own.

    Args:
        model: the name to ask for; None takes the first that is served.
        text: token ids to text, for servers that take no ids.
        ids: whether the ids are those of the server's model; False asks with text alone.

    Raises:
        ArrieroError: no server there, or it takes none of the :data:`DIALECTS`.
    """

    over_http = True

    def __init__(
        self, url: str, key: str | None, *, model: str | None, text: Callable[[list[int]], str],
        temperature: float = 0.0, speculative: str = "off", ids: bool = True, trial: Job,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._text = text
        self._temperature = temperature
        served = get_json(self.url, key, "/v1/models")["data"]
        self.model = model or str(served[0]["id"])
        ours = any(one.get("owned_by") == "arriero" for one in served)
        self._more = (
            {"speculative": speculative, "include_cost": True} if ours else {}
        )  # others refuse a field that they do not know
        self.dialect = self._choose(trial, [d for d in DIALECTS if ids or not d.ids])

    def run(
        self, jobs: Sequence[Job], concurrency: int, deadline: float, tell: Progress
    ) -> tuple[list[Record], Decoding]:
        """Answer the jobs; after ``deadline`` (on `time.perf_counter`) no new one is begun. What a server refuses is a
        record with an error."""
        pending, ended, lock = deque(jobs), list[Record](), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    if not pending or (ended and time.perf_counter() > deadline):
                        return
                    job = pending.popleft()
                record = self.ask(job)
                with lock:
                    ended.append(record)
                    tell(ended)

        threads = [
            threading.Thread(target=work, name="arriero-bench", daemon=True) for _ in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ended, Decoding()

    def ask(self, job: Job, dialect: Dialect | None = None) -> Record:
        """One request and the times of its pieces."""
        dialect = dialect or self.dialect
        body = dialect.body(self.model, job, self._text, self._temperature) | self._more
        record = Record(time.perf_counter(), len(job.prompt))
        usage: dict[str, Any] = {}
        try:
            for chunk in post_stream(self.url, self._key, dialect.path, body):
                if _has_text(chunk):
                    record.tokens.append(time.perf_counter())
                usage = chunk.get("usage") or usage
        except (ArrieroError, ValueError) as error:
            record.error = str(error)
        record.ended = time.perf_counter()
        record.prompt = usage.get("prompt_tokens", record.prompt)
        record.generated = usage.get("completion_tokens", len(record.tokens))
        record.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        record.cost = usage.get("cost")
        return record

    def _choose(self, trial: Job, dialects: Sequence[Dialect]) -> Dialect:
        errors = []
        for dialect in dialects:
            record = self.ask(trial, dialect)
            if not record.error:
                return dialect
            errors.append(record.error)
        raise ArrieroError(f"the server at {self.url} answers no completion: {errors[-1]}")


def _has_text(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices") or []
    return any(choice.get("text") or (choice.get("delta") or {}).get("content") for choice in choices)
