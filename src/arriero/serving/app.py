"""The service: one application over one engine, made of the routes in `routes/`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from arriero.serving.endpoints import Endpoint
from arriero.serving.errors import ApiError, server_error
from arriero.serving.guard import Guard
from arriero.serving.openapi import openapi
from arriero.serving.routes.adapters import adapter_routes
from arriero.serving.routes.chat import chat_routes
from arriero.serving.routes.completions import completion_routes
from arriero.serving.routes.embeddings import embedding_routes
from arriero.serving.routes.models import model_routes
from arriero.serving.routes.page import page_routes
from arriero.serving.routes.responses import response_routes
from arriero.serving.routes.state import state_routes
from arriero.serving.routes.tokens import token_routes
from arriero.serving.service import Service

__all__ = ["make_app"]

CODES = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}


def make_app(service: Service) -> FastAPI:
    """The ASGI application, guard included."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop)

    app = FastAPI(title="Arriero", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    endpoints = _endpoints(service)
    for endpoint in endpoints:
        app.add_api_route(endpoint.path, endpoint.handler, methods=[endpoint.method], response_model=None)
    paths = frozenset(endpoint.path for endpoint in endpoints)
    _answer_errors(app, service, paths)
    settings = service.settings

    def observe(scope: Any, status: int, code: str | None) -> None:
        path = getattr(scope.get("route"), "path", "")
        service.metrics.http.add(path=path if path in paths else "other", status=str(status))
        if code is not None:
            service.metrics.rejects.add(reason=code)

    app.add_middleware(
        Guard, keys=settings.keys, hosts=settings.hosts, max_body=settings.max_body, observe=observe
    )
    return app


def _endpoints(service: Service) -> list[Endpoint]:
    makers = [
        page_routes, state_routes, model_routes, chat_routes, completion_routes, response_routes,
        embedding_routes, token_routes, adapter_routes,
    ]  # fmt: skip
    endpoints = [endpoint for make in makers for endpoint in make(service)]
    schema = openapi([e for e in endpoints if e.listed])

    async def describe(request: Request) -> Response:
        """The API's own OpenAPI schema."""
        return JSONResponse(schema)

    return [*endpoints, Endpoint("GET", "/openapi.json", describe, "This description", listed=False)]


def _answer_errors(app: FastAPI, service: Service, paths: frozenset[str]) -> None:
    def told(error: ApiError) -> Response:
        service.metrics.rejects.add(reason=error.code or "other")
        return JSONResponse(error.body(), error.status, headers=error.headers)

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return told(error)

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:200]
        message = f"{request.method} {path}: {error.detail}"
        code, headers = CODES.get(error.status_code), dict(error.headers or {})
        return told(ApiError(error.status_code, message, code=code, headers=headers))

    async def nobody(request: Request, error: Exception) -> Response:
        """The client has gone; 499 is what proxies write into their logs for that."""
        return JSONResponse(server_error("the client closed the connection").body(), 499)

    async def fault(request: Request, error: Exception) -> Response:
        """A fault of ours; the traceback goes to the server's log, not to the client."""
        return told(server_error("the server failed on this request; its log says why"))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, nobody)
    app.add_exception_handler(Exception, fault)
