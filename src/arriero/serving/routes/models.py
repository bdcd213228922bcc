"""`/v1/models`: the model that is served, its adapters, and the model for embeddings."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.serving.endpoints import Endpoint
from arriero.serving.service import Service


def model_routes(service: Service) -> list[Endpoint]:
    """The list and the single model."""

    def entries() -> list[dict[str, Any]]:
        base = service.settings.model
        own = [_entry(service, base, context_length=service.worker.engine.context_length)]
        own += [_entry(service, name, parent=base) for name in service.adapters()]
        desk = service.worker.desk
        if desk is not None and desk.name != base:
            own.append(
                _entry(service, desk.name, context_length=desk.engine.context_length, task="embeddings")
            )
        return own

    async def models(request: Request) -> Response:
        """OpenAI's list of models."""
        return JSONResponse({"object": "list", "data": entries()})

    async def model(request: Request) -> Response:
        """One model by its name."""
        name = request.path_params["name"]
        found = next((entry for entry in entries() if entry["id"] == name), None)
        if found is None:
            service.adapter_of(name)  # says what there is
        return JSONResponse(found)

    return [
        Endpoint("GET", "/v1/models", models, "The models that are served"),
        Endpoint("GET", "/v1/models/{name:path}", model, "One model"),
    ]


def _entry(service: Service, name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": service.created, "owned_by": "arriero", **more}
