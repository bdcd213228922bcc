"""`/v1/chat/completions`."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from arriero.inference.request import Request as EngineRequest
from arriero.serving.answer import Head, Usage
from arriero.serving.answer_chat import ChatAnswer
from arriero.serving.conversation import Conversation
from arriero.serving.endpoints import Endpoint
from arriero.serving.schema.body import parse
from arriero.serving.schema.chat import ChatRequest
from arriero.serving.service import Service
from arriero.serving.stream import read_body


def chat_routes(service: Service) -> list[Endpoint]:
    """The chat."""

    async def chat(request: Request) -> Response:
        """A chat completion, streamed or whole."""
        body = parse(await read_body(request), ChatRequest)
        adapter = service.adapter_of(body.model)
        talk = await asyncio.to_thread(Conversation.of_chat, service.tokenizer, body)
        sampling = body.sampling(service.room(talk.prompt))
        asked = EngineRequest(
            talk.prompt, sampling, n=body.n or 1, adapter=adapter, grammar=talk.grammar,
            speculative=body.speculative or "auto",
        )  # fmt: skip
        ticket = await service.begin([asked], "messages")
        answer = ChatAnswer(
            Head(body.model, "chatcmpl-"),
            Usage(len(talk.prompt), asked.n, service.cost_of(ticket.bill, body.include_cost)),
            service.tokenizer,
            [talk.reader() for _ in range(asked.n)],
            bool(body.logprobs),
        )
        if body.stream:
            return service.stream(ticket, answer, answer.opening(), body.include_usage())
        return await service.whole(request, ticket, answer)

    return [
        Endpoint(
            "POST", "/v1/chat/completions", chat, "Answer a conversation", body=ChatRequest, streams=True
        )
    ]
