"""`/v1/completions`."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from arriero.inference.request import Request as EngineRequest
from arriero.serving.answer import Head, Usage
from arriero.serving.answer_completions import CompletionAnswer
from arriero.serving.endpoints import Endpoint
from arriero.serving.schema.body import parse
from arriero.serving.schema.completions import CompletionRequest
from arriero.serving.service import Service
from arriero.serving.stream import read_body


def completion_routes(service: Service) -> list[Endpoint]:
    """Going on from texts."""

    def encode(body: CompletionRequest) -> list[list[int]]:
        special, prompts = body.add_special_tokens, service.prompts
        if body.suffix is not None and isinstance(body.prompt, str):
            return [prompts.infill(body.prompt, body.suffix, special)]
        return [prompts.text(p, special) if isinstance(p, str) else p for p in body.prompts()]

    def echoed(body: CompletionRequest, ids: list[list[int]]) -> list[str]:
        if not body.echo:
            return [""] * len(ids)
        pairs = zip(body.prompts(), ids, strict=True)
        # ids that are not the tokenizer's are refused in a moment, when the engine looks at them
        known = service.tokenizer.vocab_size
        return [
            p if isinstance(p, str) else service.tokenizer.decode(i for i in one if i < known)
            for p, one in pairs
        ]

    def engine_request(body: CompletionRequest, prompt: list[int], adapter: str | None) -> EngineRequest:
        prompt_logprobs = body.logprobs if body.echo else None
        # the engine gives at least one token; where none is wanted it is left out again
        sampling = body.make_sampling(max(1, body.limit()), body.logprobs, prompt_logprobs)
        return EngineRequest(
            prompt, sampling, n=body.n or 1, best_of=body.best_of, adapter=adapter, grammar=body.grammar(),
            speculative=body.speculative or "auto",
        )  # fmt: skip

    async def complete(request: Request) -> Response:
        """A completion, streamed or whole."""
        body = parse(await read_body(request), CompletionRequest)
        adapter = service.adapter_of(body.model)
        prompts = await asyncio.to_thread(encode, body)
        asked = [engine_request(body, prompt, adapter) for prompt in prompts]
        ticket = await service.begin(asked, "prompt")
        n = body.n or 1
        answer = CompletionAnswer(
            Head(body.model, "cmpl-"),
            Usage(sum(map(len, prompts)), n, service.cost_of(ticket.bill, body.include_cost)),
            service.tokenizer,
            echoed(body, prompts),
            n,
            body.logprobs is not None,
            new_text=body.limit() > 0,
        )
        if body.stream:
            return service.stream(ticket, answer, iter(()), body.include_usage())
        return await service.whole(request, ticket, answer)

    return [
        Endpoint(
            "POST", "/v1/completions", complete, "Go on from texts", body=CompletionRequest, streams=True
        )
    ]
