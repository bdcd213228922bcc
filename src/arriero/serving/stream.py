"""Answers that take long: sent as they come, and given up when the client goes away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from arriero.serving.errors import ApiError

T = TypeVar("T")
KEEP_ALIVE_SECONDS = 10.0
"""A comment goes out after so long a silence, so that nothing on the way closes the connection."""
STUCK_SECONDS = 60.0
"""A client that takes nothing for so long has its connection cut."""
BODY_SECONDS = 60.0
"""How long a client may take to send a body."""


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        ApiError: 408, it does not come; 413, it is too large (from the guard).
        ClientDisconnect: the client has gone.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except TimeoutError:
        raise ApiError(
            408,
            f"the body did not come within {BODY_SECONDS:g} s",
            code="body_timeout",
            headers={"Connection": "close"},
        ) from None


async def watch_disconnect(receive: Receive) -> None:
    """Return when the client has gone. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client goes away.

    Raises:
        ClientDisconnect: the client has gone.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(watch_disconnect(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _cancel(task, gone)


class EventStream(Response):
    """Server-sent events from an iterator of JSON values.

    ``close`` is called whatever happens: at the end, on an error, or when the client goes away, even before
    the iterator has started.

    Args:
        named: write each value's ``type`` as the event's name, as the Responses API does, and no ``[DONE]`` at the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[dict[str, Any]],
        close: Callable[[], None],
        *,
        named: bool = False,
        keep_alive: float | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._named = named
        self._keep_alive = KEEP_ALIVE_SECONDS if keep_alive is None else keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end, the client goes away, or takes nothing for too long."""
        sender = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(watch_disconnect(receive))
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and not isinstance(sender.exception(), OSError):
                sender.result()
        except _Stuck:
            if "arriero.abort" in scope:
                scope["arriero.abort"]()
        finally:
            self._close()
            await _cancel(sender, gone)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while True:
            upcoming = asyncio.ensure_future(anext(self._events))
            try:
                while not (await asyncio.wait({upcoming}, timeout=self._keep_alive))[0]:
                    await _send_text(send, ": keep-alive\n\n")
                event = upcoming.result()
            except StopAsyncIteration:
                break
            finally:
                await _cancel(upcoming)
            name = f"event: {event['type']}\n" if self._named else ""
            await _send_text(send, f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n")
        if not self._named:
            await _send_text(send, "data: [DONE]\n\n")
        await send({"type": "http.response.body", "body": b""})


class _Stuck(Exception):  # noqa: N818 - it is about the client, and none of ours
    """The client takes nothing."""


async def _send_text(send: Send, text: str) -> None:
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    except TimeoutError:
        raise _Stuck from None


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks that still run and wait for their end."""
    for task in tasks:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
