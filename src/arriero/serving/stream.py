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

T = TypeVar("T")
KEEP_ALIVE_SECONDS = 10.0
"""A comment goes out after so long a silence, so that nothing on the way closes the connection."""


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
    """Server-sent events from an iterator of JSON values, ended by ``[DONE]``.

    ``close`` is called whatever happens: at the end, on an error, or when the client goes away, even before
    the iterator has started.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[dict[str, Any]],
        close: Callable[[], None],
        keep_alive: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client goes away."""
        sender = asyncio.ensure_future(self._send_all(send))
        gone = asyncio.ensure_future(watch_disconnect(receive))
        try:
            await asyncio.wait({sender, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and not isinstance(sender.exception(), OSError):
                sender.result()
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
            await _send_text(send, f"data: {json.dumps(event, ensure_ascii=False)}\n\n")
        await _send_text(send, "data: [DONE]\n\n")
        await send({"type": "http.response.body", "body": b""})


async def _send_text(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks that still run and wait for their end."""
    for task in tasks:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
