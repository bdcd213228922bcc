"""What all routes share: the engine's worker, who may ask for which model, and the way of a request through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.errors import ArrieroError, did_you_mean
from arriero.inference.request import QueueFullError, RequestError
from arriero.inference.request import Request as EngineRequest
from arriero.serving.bill import Bill
from arriero.serving.errors import ApiError, bad_request, overloaded
from arriero.serving.prompts import Prompts
from arriero.serving.stream import EventStream, until_disconnect
from arriero.serving.ticket import Piece, Ticket
from arriero.serving.worker import EngineWorker

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class ServiceSettings:
    """What the service allows.

    Attributes:
        keys: any of them opens the door; none at all leaves it open.
        max_tokens: length of an answer when the request names none (never more than fits the context).
        max_prompt_tokens: longest prompt that is taken; None leaves it to the context.
        adapters: folder from whose subfolders adapters may be loaded at run time; None allows none.
        stored: most responses that are kept for ``previous_response_id``; 0 keeps none.
    """

    model: str
    keys: tuple[str, ...]
    hosts: frozenset[str] | None
    max_body: int = 1 << 20
    max_tokens: int = 512
    max_prompt_tokens: int | None = None
    adapters: Path | None = None
    stored: int = 256


class Answer(Protocol):
    """An endpoint's way to write an answer."""

    def whole(self, pieces: list[Piece]) -> dict[str, Any]: ...


class StreamedAnswer(Answer, Protocol):
    """An answer that can be written in chunks."""

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]]: ...

    def usage_chunk(self) -> dict[str, Any]: ...


@dataclass
class Service:
    """The parts that routes are made of."""

    worker: EngineWorker
    settings: ServiceSettings
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.metrics = self.worker.metrics
        self.tokenizer = self.worker.engine.tokenizer
        self.prompts = Prompts(self.tokenizer)

    # ------------------------------------------------------------ models

    def adapters(self) -> list[str]:
        """Names of the adapters that are loaded; each is a model."""
        return self.worker.engine.adapters.names()

    def adapter_of(self, model: str) -> str | None:
        """The adapter that a model's name means; None for the plain model.

        Raises:
            ApiError: 404, there is no such model here.
        """
        if model == self.settings.model:
            return None
        known = self.adapters()
        if model in known:
            return model
        served = ", ".join(f"'{name}'" for name in (self.settings.model, *known))
        raise ApiError(
            404,
            f"the model '{model[:100]}' is not served here{did_you_mean(model, [self.settings.model, *known])}; "
            f"served: {served}",
            param="model",
            code="model_not_found",
        )

    # ------------------------------------------------------------ answers

    def room(self, prompt: Sequence[int]) -> int:
        """Length of an answer when the request names none."""
        engine = self.worker.engine
        room = min(engine.context_length, engine.pool.max_tokens) - len(prompt)
        return max(1, min(self.settings.max_tokens, room))

    async def begin(self, requests: Sequence[EngineRequest], prompt_field: str) -> Ticket:
        """Hand requests to the engine.

        Args:
            prompt_field: what the endpoint calls the prompt, for errors about it.

        Raises:
            ApiError: 400 (a grammar that cannot be used among it), 429 or 503, see :meth:`EngineWorker.submit`.
        """
        self.worker.check_open()
        limit = self.settings.max_prompt_tokens
        for request in requests:
            if limit is not None and len(request.prompt) > limit:
                raise bad_request(
                    f"the prompt has {len(request.prompt):,} tokens, this server takes {limit:,}",
                    param=prompt_field,
                    code="context_length_exceeded",
                )
        try:
            for spec in {request.grammar for request in requests}:
                if spec is not None:
                    await asyncio.wrap_future(self.worker.engine.grammars.compile(spec))
        except QueueFullError as error:
            raise overloaded(str(error)) from None
        except ArrieroError as error:
            raise bad_request(str(error), param="response_format", code="invalid_grammar") from None
        try:
            return self.worker.submit(requests)
        except RequestError as error:
            param = prompt_field if error.param in ("messages", "prompt") else error.param
            raise bad_request(str(error), param=param, code=error.code) from None

    def cost_of(self, bill: Bill, wanted: bool | None) -> Callable[[], dict[str, Any]] | None:
        """A function that tells what a request has cost so far, if that is wanted and known."""
        biller = self.worker.biller
        return (lambda: biller.told(bill)) if wanted and biller is not None else None

    async def whole(self, request: Request, ticket: Ticket, answer: Answer) -> Response:
        """The whole answer as JSON; the engine stops when the client goes away."""
        try:
            pieces = await until_disconnect(request, _all(ticket))
        finally:
            self.worker.close(ticket)
        return JSONResponse(answer.whole(pieces))

    def stream(
        self, ticket: Ticket, answer: StreamedAnswer, opening: Iterator[dict[str, Any]], usage: bool
    ) -> Response:
        """The answer as server-sent events. With ``usage`` every chunk carries the field, null but in the last."""
        blank: dict[str, Any] = {"usage": None} if usage else {}

        async def chunks() -> AsyncIterator[dict[str, Any]]:
            try:
                for chunk in opening:
                    yield chunk | blank
                async for piece in ticket:
                    for chunk in answer.chunks(piece):
                        yield chunk | blank
                if usage:
                    yield answer.usage_chunk()
            except ApiError as error:
                self.metrics.rejects.add(reason=error.code or "other")
                yield error.body()

        return EventStream(chunks(), close=lambda: self.worker.close(ticket))


async def _all(ticket: Ticket) -> list[Piece]:
    return [piece async for piece in ticket]
