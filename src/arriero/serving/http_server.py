"""uvicorn, set up for this service. Imported only once the extra [serve] is known to be there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from socket import socket
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from arriero.serving.errors import unavailable
from arriero.serving.guard import MAX_HEADER_BYTES, MAX_PATH_BYTES, send_error
from arriero.serving.worker import EngineWorker

DRAIN_SECONDS = 30.0
"""How long running answers get to finish after a signal."""
HEAD_SECONDS = 15.0
"""How long a client may take for the head of a request."""
MAX_CONNECTIONS = 512


class HttpServer(uvicorn.Server):
    """Tells when it listens. The first signal drains: what runs is finished, what comes gets 503 till then."""

    def __init__(self, app: ASGIApp, worker: EngineWorker) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                ws="none",
                log_level="warning",
                access_log=False,  # addresses of clients are nobody's business, and it costs time
                lifespan="on",
                timeout_graceful_shutdown=2,  # answers had their time before that, in on_tick
                server_header=False,
                # twice the guard's limits, so that its answer, in OpenAI's shape, is the one that is seen
                h11_max_incomplete_event_size=2 * (MAX_HEADER_BYTES + MAX_PATH_BYTES),
            )
        )
        self.worker = worker
        self.on_ready: Callable[[], None] | None = None
        self._drain_until: float | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started and self.on_ready is not None:
            self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second one ends at once."""
        if self._drain_until is not None:
            self.should_exit = self.force_exit = True
        self.drain()
        self._drain_until = self._drain_until or time.monotonic() + DRAIN_SECONDS

    def drain(self) -> None:
        """Finish what runs and refuse what comes."""
        self.worker.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Ends the server once it has drained."""
        if self._drain_until is not None and (self.worker.drained or time.monotonic() > self._drain_until):
            self.should_exit = True
        return await super().on_tick(counter)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that waits for a request's head only so long, bounds the connections, and lets a route cut its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inner: Any = self.app
        self.app = self._serve
        self._patience: asyncio.TimerHandle | None = None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.connections) > MAX_CONNECTIONS:
            await send_error(unavailable("too many connections are open: try again later"), send)
            return
        scope["arriero.abort"] = self.transport.abort
        await self._inner(scope, receive, send)

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Go on waiting while a head is not whole."""
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        if self._patience is not None:
            self._patience.cancel()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        incomplete = self.conn.their_state is h11.IDLE
        if incomplete and self._patience is None:
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        elif not incomplete and self._patience is not None:
            self._patience.cancel()
            self._patience = None
