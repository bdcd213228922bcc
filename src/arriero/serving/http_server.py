"""uvicorn, set up for this service. Imported only once the extra [serve] is known to be there."""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from arriero.serving.worker import EngineWorker

DRAIN_SECONDS = 30
"""How long running answers get to finish after a signal."""


class HttpServer(uvicorn.Server):
    """Tells when it listens, and takes no new requests once it was asked to end."""

    def __init__(self, app: ASGIApp, worker: EngineWorker) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,  # addresses of clients are nobody's business, and it costs time
                lifespan="on",
                timeout_graceful_shutdown=DRAIN_SECONDS,
                server_header=False,
            )
        )
        self.worker = worker
        self.on_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started and self.on_ready is not None:
            self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, a second Ctrl-C ends at once."""
        self.drain()
        super().handle_exit(sig, frame)

    def drain(self) -> None:
        """Finish what runs and refuse what comes."""
        self.worker.draining = True
