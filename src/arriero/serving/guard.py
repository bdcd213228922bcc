"""What every request passes first: host, origin, key, and the size of its body."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING

from arriero.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset({"/", "/health"})
"""Paths that need no key: the page (which holds nothing) and the state of the engine."""


class Guard:
    """ASGI middleware. The checks come before any route, so a new route is protected without a thought.

    Args:
        key: what clients must send as ``Authorization: Bearer``; None lets everyone in.
        hosts: names that the Host header may carry, or None for any. On a loopback address this stops other
            sites' scripts that let their own name point here (DNS rebinding).
        max_body: most bytes of a body.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, hosts: frozenset[str] | None, max_body: int) -> None:
        self._app = app
        self._key = key.encode() if key is not None else None
        self._hosts = hosts
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on."""
        if scope["type"] == "websocket":  # there are none, and none could slip past the key
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            if scope["path"] not in OPEN_PATHS:
                self._check_key(headers)
            await self._app(scope, self._limited(headers, receive), watched_send)
        except ApiError as error:
            if not started:
                await send_error(error, send)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise ApiError(
                403,
                f"this server answers to {', '.join(sorted(self._hosts))}, not to '{host}'",
                code="wrong_host",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        exposed = self._hosts is not None or self._key is None  # elsewhere the key keeps other pages out
        if exposed and origin and origin.partition("://")[2].lower() != host.lower():
            raise ApiError(403, "requests from other web pages are not allowed", code="wrong_origin")

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if self._key is None:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            what = "the API key is wrong" if given else "an API key is needed"
            raise ApiError(
                401,
                f"{what}: send the one that the server printed at its start as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _limited(self, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """``receive`` that refuses a body over the limit, by what it says and by what really comes."""
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body:
            raise self._too_large()
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > self._max_body:
                    raise self._too_large()
            return message

        return counted

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is over the limit of {self._max_body:,} bytes", code="body_too_large")


def host_name(header: str) -> str:
    """The name in a Host header, without port and in lower case: ``[::1]:8000`` gives ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


async def send_error(error: ApiError, send: Send) -> None:
    """Answer with an error, in plain ASGI."""
    body = json.dumps(error.body()).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
