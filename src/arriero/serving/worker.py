"""The engine in a thread of its own, asked from the server's event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from arriero.errors import ArrieroError
from arriero.inference.engine import Engine
from arriero.inference.request import Event, Request
from arriero.serving.bill import Biller
from arriero.serving.desk import EncoderDesk
from arriero.serving.errors import ApiError, bad_request, overloaded, server_error, unavailable
from arriero.serving.metrics import Metrics
from arriero.serving.ticket import Ticket
from arriero.serving.watch import Watch

_log = logging.getLogger("arriero.serving")

MAX_RETRY_AFTER = 60
FAILURES = 3
"""So many steps that failed one after the other, and the engine counts as failing till one works."""


@dataclass(frozen=True)
class Limits:
    """What may be open at a time, and for how long.

    Attributes:
        queue: most answers that wait beyond those that run. queue_tokens: most tokens (prompts and limits of answers)
            that are open beyond what the key-value pool holds. seconds: longest time of a request.
        stall_seconds: after so long without a finished step, while there is work, the engine counts as stalled.
    """

    queue: int = 64
    queue_tokens: int = 1 << 18
    seconds: float = 600.0
    stall_seconds: float = 120.0


@dataclass(frozen=True)
class _Command:
    what: Literal["submit", "abort", "call", "wake"]
    ticket: Ticket | None = None
    call: Callable[[], None] | None = None


State = Literal["ok", "draining", "stalled", "failing", "dead"]


@dataclass(frozen=True)
class Health:
    """Whether the engine gets on with its work."""

    ok: bool
    state: State
    open: int
    running: int
    waiting: int
    steps: int
    seconds_since_step: float


class EngineWorker:
    """Owner of the engine. Everything but the thread's own loop is called from one event loop.

    Args:
        biller: shares the cost of the steps among requests; None counts no cost.
        desk: an engine for vectors that takes turns with this one in the thread.
    """

    def __init__(
        self, engine: Engine, *, limits: Limits | None = None, metrics: Metrics | None = None,
        biller: Biller | None = None, desk: EncoderDesk | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.desk = desk
        self.limits = limits or Limits()
        self.metrics = metrics or Metrics()
        self.biller = biller
        if desk is not None and biller is not None:
            desk.bill_to(biller, self.metrics)
        self.max_open = engine.max_batch + self.limits.queue
        self.max_tokens = engine.pool.max_tokens + self.limits.queue_tokens
        engine.max_waiting = self.max_open  # the bound is kept here, where a refusal can be told at once
        self.draining = False
        self._stall_seconds = self.limits.stall_seconds
        self._open: set[Ticket] = set()
        self._inbox: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._tickets: dict[int, tuple[Ticket, int]] = {}
        self._ids: dict[Ticket, list[int]] = {}
        self._watch = Watch(self.metrics)
        self._progress = time.monotonic()
        self._failures = 0
        self._buried = False
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

    def submit(self, requests: Sequence[Request]) -> Ticket:
        """Hand requests to the engine, all or none.

        Raises:
            ApiError: 429 the queue is full, 503 no new requests are taken, 400 it could never hold so many.
            RequestError: a request can never be served.
        """
        self.check_open()
        for request in requests:
            self.engine.check(request)
        ticket = Ticket(requests, self.limits.seconds)
        self._check_room(ticket)
        if not self._open:
            self._progress = time.monotonic()
        self._open.add(ticket)
        self._inbox.put(_Command("submit", ticket))
        return ticket

    def check_open(self) -> None:
        """Raise an ApiError (503) unless new work is taken."""
        if self.draining:
            raise unavailable("the server is shutting down", code="draining")
        if self._buried or not self._thread.is_alive():
            raise unavailable("the engine is not running", code="engine_dead")

    def _check_room(self, ticket: Ticket) -> None:
        sequences = sum(t.sequences for t in self._open)
        if ticket.sequences > self.max_open:
            raise bad_request(
                f"{ticket.sequences} answers at once are asked for, at most {self.max_open} can be: ask for fewer",
                param="n",
                code="too_many_answers",
            )
        if sequences + ticket.sequences > self.max_open:
            raise overloaded(
                f"{sequences} answers are open, {self.max_open} the most allowed: try again later",
                self._retry_after(sequences),
            )
        tokens = sum(t.tokens for t in self._open)
        if self._open and tokens + ticket.tokens > self.max_tokens:
            raise overloaded(
                f"{tokens:,} tokens are open, {self.max_tokens:,} the most allowed: try again later",
                self._retry_after(sequences),
            )

    def _retry_after(self, sequences: int) -> int:
        """Seconds after which there may be room: as requests have lasted till now, a batch after the other."""
        batches = sequences / self.engine.max_batch
        return min(MAX_RETRY_AFTER, max(1, math.ceil(self.metrics.duration.mean * batches)))

    def close(self, ticket: Ticket) -> None:
        """The answer is not wanted any more, or has ended: its place is freed."""
        if ticket in self._open:
            self._open.discard(ticket)
            ticket.closed = True
            self._inbox.put(_Command("abort", ticket))

    def do(self, work: Callable[[], None]) -> None:
        """Have something done in the engine's thread, between two steps. It must not raise."""
        self._inbox.put(_Command("call", call=work))

    @property
    def drained(self) -> bool:
        """Whether nothing is open any more."""
        return not self._open and (self.desk is None or not self.desk.open)

    def health(self) -> Health:
        """Watches the steps of the engine, not the process."""
        age = 0.0 if self.drained else time.monotonic() - self._progress
        state: State
        if self._buried or not self._thread.is_alive():
            state = "dead"
        elif age > self._stall_seconds:
            state = "stalled"
        elif self._failures >= FAILURES:
            state = "failing"
        else:
            state = "draining" if self.draining else "ok"
        engine = self.engine
        return Health(
            state == "ok", state, len(self._open), engine.running, engine.waiting, engine.steps, round(age, 3)
        )

    # ------------------------------------------------------------ the thread's side

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:
            _log.critical(
                "the engine's thread has ended by a fault; the server must be started anew", exc_info=True
            )
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._bury)

    def _bury(self) -> None:
        """The thread is no more: nobody shall wait for it. Called on the event loop."""
        self._buried = True
        error = server_error("the engine has ended by a fault; the server's log says why")
        for ticket in list(self._open):
            ticket.fail(error)
        if self.desk is not None:
            self.desk.bury(error)

    def _work(self) -> None:
        while not self._stop.is_set():
            was_idle = self._idle
            self._take_commands(wait=was_idle)
            if self._idle:
                continue
            if was_idle and self.biller is not None:
                self.biller.begin()
            if not self.engine.idle:
                self._step()
            if self.desk is not None and not self.desk.idle:
                self.desk.step()
            self._progress = time.monotonic()
        down = unavailable("the server is shutting down", code="draining")
        self._fail(down)
        if self.desk is not None:
            self.desk.fail(down)

    @property
    def _idle(self) -> bool:
        return self.engine.idle and (self.desk is None or self.desk.idle)

    def _step(self) -> None:
        try:
            events = self.engine.step()
        except Exception as error:
            ours = isinstance(error, ArrieroError)
            if not ours:
                _log.exception("a step of the engine failed; its requests are ended")
            self._failures += 1
            self._share()
            what = str(error) if ours else "the engine failed on this request; the server's log says why"
            self._fail(server_error(what))
            return
        self._failures = 0
        known = [(*self._tickets[e.request_id], e) for e in events if e.request_id in self._tickets]
        self._watch.step(self.engine.last_step, self._tickets, known)
        self._share()
        self._deliver([(ticket, first + event.index, event) for ticket, first, event in known])

    def _share(self) -> None:
        """Put the step onto the bills of the requests that it worked on."""
        if self.biller is not None:
            work = self.engine.last_step.items()
            self.biller.share(
                (self._tickets[number][0].bill, rows) for number, rows in work if number in self._tickets
            )

    def _take_commands(self, wait: bool) -> None:
        """Do what came in; wait for something when there is nothing else to do."""
        while True:
            try:
                command = self._inbox.get(block=wait, timeout=1.0 if wait else None)
            except queue.Empty:
                return
            wait = False
            if command.call is not None:
                command.call()
            elif command.ticket is not None and command.what == "submit":
                self._begin(command.ticket)
            elif command.ticket is not None:
                self._end(command.ticket)

    def _begin(self, ticket: Ticket) -> None:
        if ticket.closed:
            return
        ids = self._ids[ticket] = []
        try:
            for first, request in zip(ticket.firsts, ticket.requests, strict=True):
                number = self.engine.submit(request)
                ids.append(number)
                self._tickets[number] = (ticket, first)
        except ArrieroError as error:
            self._forget(ticket)
            self._deliver([(ticket, -1, server_error(str(error)))])

    def _end(self, ticket: Ticket) -> None:
        self._forget(ticket)
        self._watch.end(ticket)
        if self.biller is not None:
            self.biller.close(ticket.bill, self.metrics)

    def _forget(self, ticket: Ticket) -> None:
        for number in self._ids.pop(ticket, ()):
            del self._tickets[number]
            self.engine.abort(number)

    def _fail(self, error: ApiError) -> None:
        """End every request with an error; the engine goes on with the next ones."""
        self.engine.abort_all()
        self._deliver([(ticket, -1, error) for ticket in self._ids])
        self._tickets.clear()
        self._ids.clear()

    def _deliver(self, items: list[tuple[Ticket, int, Event | ApiError]]) -> None:
        assert self._loop is not None, "start() comes first"
        if not items:
            return
        try:
            self._loop.call_soon_threadsafe(_put_all, items)
        except RuntimeError:
            _log.debug("the event loop is closed; %d events have no reader", len(items))


def _put_all(items: list[tuple[Ticket, int, Event | ApiError]]) -> None:
    for ticket, index, item in items:
        if isinstance(item, ApiError):
            ticket.fail(item)
        else:
            ticket.put(index, item)
