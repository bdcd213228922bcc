"""What every request passes first: host, origin, key, and the size of its headers and body."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from arriero.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS = frozenset({"/", "/health"})
"""Paths that need no key: the page (which holds nothing) and the state of the engine."""
MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 << 10
MAX_PATH_BYTES = 2 << 10

Observer = Callable[["Scope", int, "str | None"], None]


class Guard:
    """ASGI middleware. The checks come before any route, so a new route is protected without a thought.

    Args:
        keys: any of these must be sent as ``Authorization: Bearer``; none at all lets everyone in.
        hosts: names that the Host header may carry, or None for any. On a loopback address this stops other
            sites' scripts that let their own name point here (DNS rebinding).
        max_body: most bytes of a body.
        observe: told of every answer: the request, its status, and the code of an error of this guard's.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Iterable[str],
        hosts: frozenset[str] | None,
        max_body: int,
        observe: Observer = lambda scope, status, code: None,
    ) -> None:
        self._app = app
        self._keys = [_digest(key.encode()) for key in keys]
        self._hosts = hosts
        self._max_body = max_body
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the request, then hand it on."""
        if scope["type"] == "websocket":  # there are none, and none could slip past the key
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._observe(scope, status, None)
            await send(message)

        try:
            headers = dict(scope["headers"])
            self._check_size(scope)
            self._check_host(headers)
            if scope["path"] not in OPEN_PATHS:
                self._check_key(headers)
            await self._app(scope, self._limited(headers, receive), watched_send)
        except ApiError as error:
            if not status:
                self._observe(scope, error.status, error.code)
                await send_error(error, send)

    def _check_size(self, scope: Scope) -> None:
        headers = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(n) + len(v) for n, v in headers) > MAX_HEADER_BYTES:
            raise ApiError(
                431,
                f"there are more than {MAX_HEADERS} headers, or more than {MAX_HEADER_BYTES:,} bytes of them",
                code="headers_too_large",
            )
        if len(scope["raw_path"] or b"") + len(scope["query_string"]) > MAX_PATH_BYTES:
            raise ApiError(414, f"the path is over {MAX_PATH_BYTES:,} bytes long", code="path_too_long")

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and host_name(host) not in self._hosts:
            raise ApiError(
                403,
                f"this server answers to {', '.join(sorted(self._hosts))}, not to '{host[:200]}'",
                code="wrong_host",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        exposed = self._hosts is not None or not self._keys  # elsewhere the key keeps other pages out
        if exposed and origin and origin.partition("://")[2].lower() != host.lower():
            raise ApiError(403, "requests from other web pages are not allowed", code="wrong_origin")

    def _check_key(self, headers: dict[bytes, bytes]) -> None:
        if not self._keys:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        digest = _digest(given.strip())
        # every key is compared, so that the time tells neither which one fits nor how much of it
        fits = [hmac.compare_digest(digest, key) for key in self._keys]
        if scheme.lower() != b"bearer" or not any(fits):
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
        if declared.isdigit() and int(declared[:20]) > self._max_body:
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


def _digest(key: bytes) -> bytes:
    """Keys are compared by their digests, which all have one length."""
    return hashlib.sha256(key).digest()


def host_name(header: str) -> str:
    """The name in a Host header, without port and in lower case: ``[::1]:8000`` gives ``::1``."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


async def send_error(error: ApiError, send: Send) -> None:
    """Answer with an error, in plain ASGI."""
    body = json.dumps(error.body()).encode()
    headers: dict[str, Any] = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **error.headers,
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
