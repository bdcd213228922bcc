"""`/v1/responses`: OpenAI's newer interface, for text and function calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.inference.request import Request as EngineRequest
from arriero.serving.answer import Usage, new_id
from arriero.serving.answer_responses import ResponseAnswer
from arriero.serving.conversation import Conversation, messages_of_items, messages_of_output
from arriero.serving.endpoints import Endpoint
from arriero.serving.errors import ApiError
from arriero.serving.schema.body import parse
from arriero.serving.schema.chat import Message
from arriero.serving.schema.responses import ResponsesRequest
from arriero.serving.service import Service
from arriero.serving.stored import ResponseStore
from arriero.serving.stream import EventStream, read_body
from arriero.serving.ticket import Ticket


def response_routes(service: Service) -> list[Endpoint]:
    """Making a response, reading it again, and forgetting it."""
    routes = _Responses(service)
    return [
        Endpoint(
            "POST", "/v1/responses", routes.create, "Answer with text or calls", body=ResponsesRequest, streams=True
        ),
        Endpoint("GET", "/v1/responses/{id}", routes.read, "A stored response"),
        Endpoint("DELETE", "/v1/responses/{id}", routes.forget, "Forget a stored response"),
    ]  # fmt: skip


class _Responses:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = ResponseStore(service.settings.stored)

    async def create(self, request: Request) -> Response:
        """A response, streamed or whole."""
        service = self._service
        body = parse(await read_body(request), ResponsesRequest)
        adapter = service.adapter_of(body.model)
        messages = [*self._earlier(body.previous_response_id), *messages_of_items(body.items())]
        talk = await asyncio.to_thread(Conversation.of_responses, service.tokenizer, body, messages)
        sampling = body.make_sampling(body.max_output_tokens or service.room(talk.prompt), body.logprobs())
        asked = EngineRequest(
            talk.prompt,
            sampling,
            adapter=adapter,
            grammar=talk.grammar,
            speculative=body.speculative or "auto",
        )
        ticket = await service.begin([asked], "input")
        answer = ResponseAnswer(
            _base(body), Usage(len(talk.prompt), 1, service.cost_of(ticket.bill, body.include_cost)), service.tokenizer,
            body.logprobs(), talk.reader(),
        )  # fmt: skip
        kept = messages if body.store is not False else None
        if body.stream:
            events = self._events(ticket, answer, kept)
            return EventStream(events, close=lambda: service.worker.close(ticket), named=True)
        told = await service.whole(request, ticket, answer)
        self._keep(answer, kept)
        return told

    async def _events(
        self, ticket: Ticket, answer: ResponseAnswer, kept: list[Message] | None
    ) -> AsyncIterator[dict[str, Any]]:
        try:
            for event in answer.opening():
                yield event
            async for piece in ticket:
                for event in answer.chunks(piece):
                    yield event
            self._keep(answer, kept)
            for event in answer.ending():
                yield event
        except ApiError as error:
            self._service.metrics.rejects.add(reason=error.code or "other")
            for event in answer.failed(error):
                yield event

    def _keep(self, answer: ResponseAnswer, messages: list[Message] | None) -> None:
        if messages is not None:
            self._store.put(answer.response(), [*messages, *messages_of_output(answer.output)])

    def _earlier(self, response_id: str | None) -> tuple[Message, ...]:
        return () if response_id is None else self._found(response_id, "previous_response_id").messages

    def _found(self, response_id: str, param: str) -> Any:
        found = self._store.get(response_id)
        if found is None:
            raise ApiError(
                404,
                f"there is no response '{response_id[:100]}' here: this server keeps the last "
                f"{self._service.settings.stored} in memory, so send the whole conversation as 'input'",
                param=param,
                code="response_not_found",
            )
        return found

    async def read(self, request: Request) -> Response:
        """A response that was made before."""
        return JSONResponse(self._found(request.path_params["id"], "id").body)

    async def forget(self, request: Request) -> Response:
        """Forget a response."""
        response_id = request.path_params["id"]
        self._found(response_id, "id")
        self._store.drop(response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})


def _base(body: ResponsesRequest) -> dict[str, Any]:
    """What a response says of its request."""
    form = body.text.format if body.text is not None else None
    choice = body.tool_choice
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "background": False,
        "error": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {},
        "model": body.model,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": {"type": "text"} if form is None else form.model_dump(by_alias=True)},
        "tool_choice": choice.model_dump() if choice is not None and not isinstance(choice, str) else choice or "auto",
        "tools": [tool.model_dump() for tool in body.tools or []],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "user": None,
    }  # fmt: skip
