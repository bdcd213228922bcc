"""What a route is: enough to serve it, to protect it and to describe it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from arriero.serving.schema.body import Body


@dataclass(frozen=True)
class Endpoint:
    """One method of one path.

    Attributes:
        body: what it reads; None for nothing. media: what it answers with when all is well.
        streams: may answer with server-sent events instead. listed: whether the schema of the API shows it.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    summary: str
    body: type[Body] | None = None
    media: str = "application/json"
    streams: bool = False
    listed: bool = True
