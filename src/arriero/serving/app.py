"""The service's routes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from arriero.errors import ArrieroError
from arriero.inference.request import Event, RequestError
from arriero.inference.request import Request as EngineRequest
from arriero.serving.answer import Answer
from arriero.serving.errors import ApiError, bad_request, server_error
from arriero.serving.guard import Guard
from arriero.serving.schema import ChatRequest, parse_chat_request
from arriero.serving.stream import EventStream, until_disconnect
from arriero.serving.worker import EngineWorker, Ticket


@dataclass(frozen=True)
class ServiceSettings:
    """What the service allows.

    ``max_tokens`` is the length of an answer when the request names none (never more than fits the context).
    """

    model: str
    key: str | None
    hosts: frozenset[str] | None
    max_body: int = 1 << 20
    max_tokens: int = 512


class Service:
    """The routes, over one engine."""

    def __init__(self, worker: EngineWorker, settings: ServiceSettings) -> None:
        self._worker = worker
        self._settings = settings
        self._tokenizer = worker.engine.tokenizer
        self._created = int(time.time())
        self._page, self._page_headers = load_page()

    def app(self) -> FastAPI:
        """The ASGI application, guard included."""
        app = FastAPI(title="Arriero", openapi_url=None, lifespan=self._lifespan)
        app.add_api_route("/", self.page, methods=["GET"], response_model=None)
        app.add_api_route("/health", self.health, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models", self.models, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models/{name:path}", self.model, methods=["GET"], response_model=None)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"], response_model=None)
        app.add_exception_handler(ApiError, _answer_api_error)
        app.add_exception_handler(HTTPException, _answer_http_error)
        app.add_exception_handler(ClientDisconnect, _answer_nobody)
        app.add_exception_handler(Exception, _answer_fault)
        settings = self._settings
        app.add_middleware(Guard, key=settings.key, hosts=settings.hosts, max_body=settings.max_body)
        return app

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        self._worker.start()
        yield
        await asyncio.to_thread(self._worker.stop)

    async def page(self) -> Response:
        """The chat page."""
        return HTMLResponse(self._page, headers=self._page_headers)

    async def health(self) -> Response:
        """200 while the engine gets on with its work, else 503; the figures either way."""
        health = self._worker.health()
        body = {
            "status": health.state,
            **{k: v for k, v in asdict(health).items() if k not in ("ok", "state")},
        }
        return JSONResponse(body, 200 if health.ok else 503, headers={"Cache-Control": "no-store"})

    async def models(self) -> Response:
        """OpenAI's list of models: the one that is served."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, name: str) -> Response:
        """One model by its name."""
        self._check_model(name)
        return JSONResponse(self._model())

    async def chat(self, request: Request) -> Response:
        """A chat completion, streamed or whole."""
        chat = parse_chat_request(await request.body())
        self._check_model(chat.model)
        prompt = await asyncio.to_thread(self._prompt, chat)
        ticket = self._submit(chat, prompt)
        answer = Answer(self._settings.model, self._tokenizer, len(prompt), bool(chat.logprobs))
        if chat.stream:
            chunks = self._chunks(ticket, answer, chat.include_usage())
            return EventStream(chunks, close=lambda: self._worker.close(ticket))
        try:
            events = await until_disconnect(request, self._all_events(ticket, answer))
        finally:
            self._worker.close(ticket)
        return JSONResponse(answer.whole(events))

    def _prompt(self, chat: ChatRequest) -> list[int]:
        try:
            return self._tokenizer.chat.render(chat.conversation(), add_generation_prompt=True).ids
        except ArrieroError as error:
            raise bad_request(str(error), param="messages", code="invalid_value") from None

    def _submit(self, chat: ChatRequest, prompt: list[int]) -> Ticket:
        engine = self._worker.engine
        room = min(engine.context_length, engine.pool.max_tokens) - len(prompt)
        sampling = chat.sampling(max(1, min(self._settings.max_tokens, room)))
        try:
            return self._worker.submit(EngineRequest(prompt, sampling))
        except RequestError as error:
            raise bad_request(str(error), param=error.param, code=error.code) from None

    async def _all_events(self, ticket: Ticket, answer: Answer) -> list[Event]:
        events = []
        async for event in ticket:
            answer.count(event)
            events.append(event)
        return events

    async def _chunks(self, ticket: Ticket, answer: Answer, usage: bool) -> AsyncIterator[dict[str, Any]]:
        """The pieces of a stream. With ``usage`` every piece carries the field, null but in the last, as OpenAI's do."""
        blank: dict[str, Any] = {"usage": None} if usage else {}
        try:
            yield answer.chunk({"role": "assistant", "content": ""}, [], None) | blank
            async for event in ticket:
                answer.count(event)
                if event.text or answer.with_logprobs:
                    yield answer.chunk({"content": event.text}, [event], None) | blank
                if event.finish_reason is not None:
                    yield answer.chunk({}, [], event.finish_reason) | blank
            if usage:
                yield answer.usage_chunk()
        except ApiError as error:
            yield error.body()

    def _check_model(self, name: str) -> None:
        if name != self._settings.model:
            raise ApiError(
                404,
                f"the model '{name}' is not served here; the one that is: '{self._settings.model}'",
                param="model",
                code="model_not_found",
            )

    def _model(self) -> dict[str, Any]:
        return {
            "id": self._settings.model,
            "object": "model",
            "created": self._created,
            "owned_by": "arriero",
            "context_length": self._worker.engine.context_length,
        }


def load_page() -> tuple[str, dict[str, str]]:
    """The chat page and its headers, which allow its own script and style and nothing else."""
    page = (resources.files("arriero.serving") / "page" / "index.html").read_text("utf-8")

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in found
        )

    policy = (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, headers=error.headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    wrapped = ApiError(error.status_code, message, code="not_found" if error.status_code == 404 else None)
    return JSONResponse(wrapped.body(), error.status_code, headers=error.headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client has gone; 499 is what proxies write into their logs for that."""
    return JSONResponse(server_error("the client closed the connection").body(), 499)


async def _answer_fault(request: Request, error: Exception) -> Response:
    """A fault of ours; the traceback goes to the server's log, not to the client."""
    fault = server_error("the server failed on this request; its log says why")
    return JSONResponse(fault.body(), fault.status)
