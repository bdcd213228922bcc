"""`/v1/adapters`: LoRA adapters, loaded and unloaded while the server runs. Off unless a folder was allowed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from arriero.errors import ArrieroError
from arriero.serving.endpoints import Endpoint
from arriero.serving.errors import ApiError, bad_request
from arriero.serving.schema.adapters import LoadAdapterRequest
from arriero.serving.schema.body import parse
from arriero.serving.service import Service
from arriero.serving.stream import read_body


def adapter_routes(service: Service) -> list[Endpoint]:
    """Nothing unless the settings name a folder of adapters."""
    store, root = service.worker.engine.adapters, service.settings.adapters
    if root is None:
        return []

    async def listed(request: Request) -> Response:
        """What is loaded."""
        return JSONResponse({"object": "list", "data": [{"id": name} for name in store.names()]})

    async def load(request: Request) -> Response:
        """Load one from a folder under the allowed one."""
        body = parse(await read_body(request), LoadAdapterRequest)
        if body.name == service.settings.model:
            raise bad_request(f"'{body.name}' is the model's own name", param="name", code="name_taken")
        folder = allowed_folder(root, body.path)
        service.worker.check_open()
        try:
            await asyncio.to_thread(store.load, body.name, folder)
        except ArrieroError as error:
            raise bad_request(str(error), param="path", code="adapter_refused") from None
        return JSONResponse({"id": body.name, "object": "adapter", "loaded": True})

    async def unload(request: Request) -> Response:
        """Unload one; requests that use it are finished first."""
        name = request.path_params["name"]
        if name not in store.names():
            raise ApiError(
                404, f"no adapter is called '{name[:100]}'", param="name", code="adapter_not_found"
            )
        try:
            store.unload(name, when_idle=True)
        except ArrieroError as error:
            raise bad_request(str(error), param="name", code="adapter_refused") from None
        return JSONResponse({"id": name, "object": "adapter", "loaded": False})

    return [
        Endpoint("GET", "/v1/adapters", listed, "The adapters that are loaded"),
        Endpoint("POST", "/v1/adapters", load, "Load an adapter", body=LoadAdapterRequest),
        Endpoint("DELETE", "/v1/adapters/{name:path}", unload, "Unload an adapter"),
    ]


def allowed_folder(root: Path, path: str) -> Path:
    """The folder that a client names, which must lie under ``root``.

    Raises:
        ApiError: 400, it lies elsewhere or is none.
    """
    try:
        folder = (root / path).resolve()
        inside = folder.is_relative_to(root.resolve()) and folder.is_dir()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise bad_request(
            f"'{path[:100]}' is no folder under the server's folder of adapters",
            param="path",
            code="path_refused",
        )
    return folder
