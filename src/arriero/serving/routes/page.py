"""The chat page."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from arriero.one_page import load_page
from arriero.serving.endpoints import Endpoint
from arriero.serving.service import Service


def page_routes(service: Service) -> list[Endpoint]:
    """The page at `/`."""
    text, headers = load_page("arriero.serving")

    async def page(request: Request) -> Response:
        """The chat page."""
        return HTMLResponse(text, headers=headers)

    return [Endpoint("GET", "/", page, "The chat page", media="text/html", listed=False)]
