"""Servers over tiny models, on free loopback ports."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from arriero.inference.engine import Engine
from arriero.serving.http_server import HttpServer
from arriero.serving.server import ServerInfo, ServerOptions, serving

KEY = "sk-test"


def _engine_helpers() -> ModuleType:
    path = Path(__file__).parents[1] / "inference" / "conftest.py"
    spec = importlib.util.spec_from_file_location("arriero_engine_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_helpers = _engine_helpers()
_one_thread = _helpers._one_thread


class Running:
    """A server that runs, its engine, and ways to talk to it."""

    def __init__(self, info: ServerInfo, server: HttpServer) -> None:
        self.info, self.server, self.engine = info, server, server.worker.engine
        headers = {"Authorization": f"Bearer {info.key}"} if info.key else {}
        self.http = httpx.Client(base_url=info.url, headers=headers, timeout=30, trust_env=False)

    def chat(self, content: Any = "hello", **fields: Any) -> httpx.Response:
        body = {"model": self.info.model, "messages": [{"role": "user", "content": content}], "max_tokens": 8}
        return self.http.post("/v1/chat/completions", content=json.dumps(body | fields))

    def health(self) -> dict[str, Any]:
        return self.http.get("/health").json()


Start = Callable[..., Running]


def _starter(stack: ExitStack) -> Start:
    def start(
        model: Any = None, *, tokenizer: Any = None, max_batch: int = 4, max_tokens_total: int | None = None,
        **options: Any,
    ) -> Running:  # fmt: skip
        model = model or _helpers.tiny_model(context_length=512)
        engine = Engine(
            model,
            tokenizer or _helpers.byte_tokenizer(),
            max_batch=max_batch,
            max_tokens_total=max_tokens_total,
        )
        chosen = ServerOptions(**{"port": 0, "api_key": KEY} | options)
        running = Running(*stack.enter_context(serving(engine, "tiny", chosen)))
        stack.callback(running.http.close)
        return running

    return start


@pytest.fixture
def make_running() -> type[Running]:
    """Wraps a server that a test has started by itself."""
    return Running


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield _starter(stack)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One server over a random model, for tests that leave nothing behind."""
    with ExitStack() as stack:
        yield _starter(stack)()


@pytest.fixture(scope="module")
def roomy() -> Iterator[Running]:
    """The same over a model of a longer context: every byte is a token here, and tools are told in words."""
    with ExitStack() as stack:
        yield _starter(stack)(_helpers.tiny_model(context_length=2048))


@pytest.fixture
def endless() -> Callable[..., Any]:
    """Makes models that say "a" without end, each step taking ``delay`` seconds."""

    def make(delay: float = 0.01, context_length: int = 4096) -> Any:
        script = _helpers.byte_tokenizer().encode("a")
        return _helpers.ScriptedModel(1, script, 261, context_length, delay)

    return make


@pytest.fixture(scope="module")
def client(server: Any) -> Any:
    """OpenAI's own client of the module's server."""
    openai = pytest.importorskip("openai")
    return openai.OpenAI(
        base_url=server.info.url + "/v1",
        api_key=server.info.key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False),
    )
