"""`/v1/embeddings`, `/v1/rerank` and `/v1/classify`."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.errors import ArrieroError
from arriero.inference.encoder_request import EncoderInput, EncoderRequest
from arriero.serving.desk import Answered, EncoderDesk
from arriero.serving.endpoints import Endpoint
from arriero.serving.errors import ApiError, bad_request
from arriero.serving.schema.body import Body, parse
from arriero.serving.schema.embeddings import ClassifyRequest, EmbeddingRequest, RerankRequest
from arriero.serving.service import Service
from arriero.serving.stream import read_body, until_disconnect

B = TypeVar("B", bound=Body)


def embedding_routes(service: Service) -> list[Endpoint]:
    """Those of them that the model can do."""
    desk = service.worker.desk
    if desk is None:
        return []
    vectors = _Vectors(service, desk)
    endpoints = [Endpoint("POST", "/v1/embeddings", vectors.embed, "Vectors of texts", body=EmbeddingRequest)]
    if "rerank" in desk.engine.tasks:
        endpoints.append(
            Endpoint("POST", "/v1/rerank", vectors.rerank, "Sort documents by a question", body=RerankRequest)
        )
    if "classify" in desk.engine.tasks:
        endpoints.append(
            Endpoint("POST", "/v1/classify", vectors.classify, "Classes of texts", body=ClassifyRequest)
        )
    return endpoints


class _Vectors:
    def __init__(self, service: Service, desk: EncoderDesk) -> None:
        self._service, self._desk = service, desk

    async def embed(self, request: Request) -> Response:
        """A vector for each text."""
        body = await self._read(request, EmbeddingRequest)
        inputs = await _reading(lambda: self._desk.engine.read(body.inputs()), "input")
        asked = EncoderRequest("embed", tuple(inputs), body.dimensions)
        found = await self._run(request, asked)
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
            for index, vector in enumerate(found.values)
        ]
        usage = self._usage(inputs, found, body.include_cost)
        return JSONResponse({"object": "list", "data": data, "model": body.model, "usage": usage})

    async def rerank(self, request: Request) -> Response:
        """The documents by how well they answer, the best first."""
        body = await self._read(request, RerankRequest)
        inputs = await _reading(lambda: self._desk.engine.read_pairs(body.query, body.documents), "documents")
        answered = await self._run(request, EncoderRequest("rerank", tuple(inputs)))
        scores = answered.values
        order = sorted(range(len(scores)), key=lambda index: -float(scores[index][0]))
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": float(scores[index][0])} for index in order[: body.top_n]
        ]
        if body.return_documents:
            results = [{**found, "document": {"text": body.documents[found["index"]]}} for found in results]
        usage = self._usage(inputs, answered, body.include_cost)
        return JSONResponse({"object": "list", "model": body.model, "results": results, "usage": usage})

    async def classify(self, request: Request) -> Response:
        """The probabilities of each text's classes."""
        body = await self._read(request, ClassifyRequest)
        inputs = await _reading(lambda: self._desk.engine.read(body.inputs()), "input")
        labels = self._desk.engine.labels
        answered = await self._run(request, EncoderRequest("classify", tuple(inputs)))
        data = [
            {
                "index": index,
                "label": labels[int(np.argmax(found))],
                "probabilities": dict(zip(labels, map(float, found), strict=True)),
            }
            for index, found in enumerate(answered.values)
        ]
        usage = self._usage(inputs, answered, body.include_cost)
        return JSONResponse({"object": "list", "model": body.model, "data": data, "usage": usage})

    async def _read(self, request: Request, kind: type[B]) -> B:
        body = parse(await read_body(request), kind)
        name = getattr(body, "model", None)
        if name != self._desk.name:
            raise ApiError(
                404,
                f"the model '{str(name)[:100]}' gives no vectors here; '{self._desk.name}' does",
                param="model",
                code="model_not_found",
            )
        return body

    async def _run(self, request: Request, asked: EncoderRequest) -> Answered:
        worker = self._service.worker
        worker.check_open()
        return await until_disconnect(request, self._desk.run(asked, worker.do))

    def _usage(
        self, inputs: Sequence[EncoderInput], answered: Answered, wanted: bool | None
    ) -> dict[str, Any]:
        tokens = sum(len(one.ids) for one in inputs)
        usage: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens}
        cost = self._service.cost_of(answered.bill, wanted)
        return usage if cost is None else usage | {"cost": cost()}


async def _reading(read: Callable[[], list[EncoderInput]], field: str) -> list[EncoderInput]:
    """Texts as the model reads them, off the event loop."""
    try:
        return await asyncio.to_thread(read)
    except ArrieroError as error:
        code = getattr(error, "code", None) or "invalid_value"
        raise bad_request(str(error), param=field, code=code) from None


def _written(vector: np.ndarray, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(np.ascontiguousarray(vector, dtype="<f4").tobytes()).decode()
    return vector.tolist()
