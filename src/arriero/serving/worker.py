"""The engine in a thread of its own, asked from the server's event loop."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.request import Event, Request
from arriero.serving.errors import ApiError, overloaded, server_error, unavailable

_log = logging.getLogger("arriero.serving")


class Ticket:
    """A request that the engine works on; iterating gives its events. Lives on the event loop's side."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.events: asyncio.Queue[Event | ApiError] = asyncio.Queue()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Every event until the one with a finish reason.

        Raises:
            ApiError: the engine failed.
        """
        while True:
            item = await self.events.get()
            if isinstance(item, ApiError):
                raise item
            yield item
            if item.finish_reason is not None:
                return


@dataclass(frozen=True)
class _Command:
    what: Literal["submit", "abort", "wake"]
    ticket: Ticket | None = None


@dataclass(frozen=True)
class Health:
    """Whether the engine gets on with its work."""

    ok: bool
    state: Literal["ok", "draining", "stalled", "dead"]
    open: int
    running: int
    waiting: int
    steps: int
    seconds_since_step: float


class EngineWorker:
    """Owner of the engine. Everything but the thread's own loop is called from one event loop.

    Args:
        max_queue: most requests that wait beyond those that run.
        stall_seconds: after so long without a finished step, while there is work, the engine counts as stalled.
    """

    def __init__(self, engine: Engine, *, max_queue: int = 64, stall_seconds: float = 120.0) -> None:
        self.engine = engine
        self.max_open = engine.pool.max_rows + max_queue
        engine.max_waiting = self.max_open  # the bound is kept here, where a refusal can be told at once
        self.draining = False
        self._stall_seconds = stall_seconds
        self._open: set[Ticket] = set()
        self._inbox: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._progress = time.monotonic()
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="arriero-engine", daemon=True)

    # ------------------------------------------------------------ the event loop's side

    def start(self) -> None:
        """Start the thread; to be called from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread; requests that still run are aborted."""
        self.draining = True
        self._stop.set()
        self._inbox.put(_Command("wake"))
        self._thread.join(timeout)

    def submit(self, request: Request) -> Ticket:
        """Hand a request to the engine.

        Raises:
            ApiError: 429 the queue is full, 503 no new requests are taken.
            RequestError: the request can never be served.
        """
        if self.draining:
            raise unavailable("the server is shutting down")
        if not self._thread.is_alive():
            raise unavailable("the engine is not running")
        if len(self._open) >= self.max_open:
            raise overloaded(f"{len(self._open)} requests are open, the most allowed: try again later")
        self.engine.check(request)
        ticket = Ticket(request)
        if not self._open:
            self._progress = time.monotonic()
        self._open.add(ticket)
        self._inbox.put(_Command("submit", ticket))
        return ticket

    def close(self, ticket: Ticket) -> None:
        """The answer is not wanted any more, or has ended: its place is freed."""
        if ticket in self._open:
            self._open.discard(ticket)
            ticket.closed = True
            self._inbox.put(_Command("abort", ticket))

    def health(self) -> Health:
        """Watches the steps of the engine, not the process."""
        age = time.monotonic() - self._progress if self._open else 0.0
        if not self._thread.is_alive():
            state: Literal["ok", "draining", "stalled", "dead"] = "dead"
        elif age > self._stall_seconds:
            state = "stalled"
        else:
            state = "draining" if self.draining else "ok"
        engine = self.engine
        return Health(
            state == "ok", state, len(self._open), engine.running, engine.waiting, engine.steps, round(age, 3)
        )

    # ------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take_commands()
            if self.engine.idle:
                continue
            try:
                events = self.engine.step()
            except ArrieroError as error:
                self._fail(server_error(str(error)))
            except Exception:
                _log.exception("a step of the engine failed; its requests are ended")
                self._fail(server_error("the engine failed on this request; the server's log says why"))
            else:
                self._deliver(
                    [(self._tickets[e.request_id], e) for e in events if e.request_id in self._tickets]
                )
            self._progress = time.monotonic()
        self.engine.abort_all()
        self._fail(unavailable("the server is shutting down"))

    def _take_commands(self) -> None:
        """Do what came in; wait for something when there is nothing else to do."""
        wait = self.engine.idle
        while True:
            try:
                command = self._inbox.get(block=wait, timeout=1.0 if wait else None)
            except queue.Empty:
                return
            wait = False
            if command.ticket is None:
                continue
            if command.what == "submit":
                self._begin(command.ticket)
            else:
                self._end(command.ticket)

    def _begin(self, ticket: Ticket) -> None:
        if ticket.closed:
            return
        try:
            request_id = self.engine.submit(ticket.request)
        except ArrieroError as error:
            self._deliver([(ticket, server_error(str(error)))])
            return
        self._tickets[request_id] = ticket

    def _end(self, ticket: Ticket) -> None:
        for request_id, known in list(self._tickets.items()):
            if known is ticket:
                del self._tickets[request_id]
                self.engine.abort(request_id)

    def _fail(self, error: ApiError) -> None:
        """End every request with an error; the engine goes on with the next ones."""
        self.engine.abort_all()
        self._deliver([(ticket, error) for ticket in self._tickets.values()])
        self._tickets.clear()

    def _deliver(self, items: list[tuple[Ticket, Event | ApiError]]) -> None:
        assert self._loop is not None, "start() comes first"
        if not items:
            return
        try:
            self._loop.call_soon_threadsafe(_put_all, items)
        except RuntimeError:
            _log.debug("the event loop is closed; %d events have no reader", len(items))


def _put_all(items: list[tuple[Ticket, Event | ApiError]]) -> None:
    for ticket, item in items:
        ticket.events.put_nowait(item)
