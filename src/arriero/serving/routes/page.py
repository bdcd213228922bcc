"""The chat page."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from arriero.serving.endpoints import Endpoint
from arriero.serving.service import Service


def page_routes(service: Service) -> list[Endpoint]:
    """The page at `/`."""
    text, headers = load_page()

    async def page(request: Request) -> Response:
        """The chat page."""
        return HTMLResponse(text, headers=headers)

    return [Endpoint("GET", "/", page, "The chat page", media="text/html", listed=False)]


def load_page() -> tuple[str, dict[str, str]]:
    """The chat page and its headers, which allow its own script and style and nothing else."""
    folder = resources.files("arriero.serving") / "page"

    def part(name: re.Match[str]) -> str:
        return (folder / name[1]).read_text("utf-8")

    # its style and the parts of its script are files of their own; what is served is one
    page = re.sub(r"/\* (\w+\.(?:css|js)) \*/\n", part, (folder / "index.html").read_text("utf-8"))

    def hashes(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        return " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in found
        )

    policy = (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
