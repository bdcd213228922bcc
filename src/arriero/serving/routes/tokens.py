"""`/tokenize` and `/detokenize`."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.errors import ArrieroError
from arriero.serving.conversation import prompt_of
from arriero.serving.endpoints import Endpoint
from arriero.serving.errors import bad_request
from arriero.serving.schema.body import parse
from arriero.serving.schema.tokens import DetokenizeRequest, TokenizeRequest
from arriero.serving.service import Service
from arriero.serving.stream import read_body


def token_routes(service: Service) -> list[Endpoint]:
    """Text to ids and back."""
    tokenizer = service.tokenizer

    def encode(body: TokenizeRequest) -> list[int]:
        if body.messages is None:
            return service.prompts.text(body.prompt or "", body.add_special_tokens)
        return prompt_of(tokenizer, body.messages, [tool.function for tool in body.tools or []])

    async def tokenize(request: Request) -> Response:
        """Ids of a text or of a conversation."""
        body = parse(await read_body(request), TokenizeRequest)
        if body.model is not None:
            service.adapter_of(body.model)
        ids = await asyncio.to_thread(encode, body)
        length = service.worker.engine.context_length
        told: dict[str, Any] = {"count": len(ids), "max_model_len": length, "tokens": ids}
        if body.return_token_strs:
            told["token_strs"] = [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in ids]
        return JSONResponse(told)

    async def detokenize(request: Request) -> Response:
        """The text of ids."""
        body = parse(await read_body(request), DetokenizeRequest)
        if body.model is not None:
            service.adapter_of(body.model)
        try:
            text = await asyncio.to_thread(tokenizer.decode, body.tokens, body.skip_special_tokens)
        except ArrieroError as error:
            raise bad_request(str(error), param="tokens", code="invalid_value") from None
        return JSONResponse({"prompt": text})

    return [
        Endpoint("POST", "/tokenize", tokenize, "Ids of a text or of a conversation", body=TokenizeRequest),
        Endpoint("POST", "/detokenize", detokenize, "The text of ids", body=DetokenizeRequest),
    ]
