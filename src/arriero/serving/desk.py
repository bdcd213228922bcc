"""Requests for vectors, classes and scores: asked from the event loop, worked on in the engine's thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from arriero.errors import ArrieroError
from arriero.inference.encoder_request import EncoderRequest
from arriero.inference.request import RequestError
from arriero.serving.bill import Bill, Biller
from arriero.serving.errors import ApiError, bad_request, overloaded, server_error

if TYPE_CHECKING:
    from arriero.inference.encoder_engine import EncoderEngine
    from arriero.serving.metrics import Metrics

_log = logging.getLogger("arriero.serving")

Values = list[np.ndarray]


@dataclass(frozen=True)
class Answered:
    """What the model found for each input, and what that took."""

    values: Values
    bill: Bill


@dataclass(eq=False)
class _Job:
    request: EncoderRequest
    done: asyncio.Future[Values]
    loop: asyncio.AbstractEventLoop
    bill: Bill = field(default_factory=Bill)
    number: int | None = None
    gone: bool = False


class EncoderDesk:
    """The encoder engine as the server uses it.

    Args:
        name: the model's name. max_open: most requests that wait or run. max_tokens: most tokens that are open, unless
            there is but one request.
    """

    def __init__(
        self, engine: EncoderEngine, name: str, *, max_open: int = 64, max_tokens: int = 1 << 20
    ) -> None:
        self.engine, self.name = engine, name
        self.max_open, self.max_tokens = max_open, max_tokens
        engine.max_waiting = max_open  # the bound is kept here, where a refusal can be told at once
        self.biller: Biller | None = None
        self._metrics: Metrics | None = None
        self.open: set[_Job] = set()
        self._jobs: dict[int, _Job] = {}

    def bill_to(self, biller: Biller, metrics: Metrics) -> None:
        """Have ``biller`` share the cost of the steps among the requests; what they took goes into ``metrics``."""
        self.biller, self._metrics = biller, metrics

    # ------------------------------------------------------------ the event loop's side

    async def run(self, request: EncoderRequest, do: Callable[[Callable[[], None]], None]) -> Answered:
        """What the model finds for each input; cancelling gives the request up.

        Args:
            do: has something done in the engine's thread.

        Raises:
            ApiError: 400 it can never be served, 429 too much is open, 500 the engine failed.
        """
        try:
            self.engine.check(request)
        except RequestError as error:
            raise bad_request(str(error), param=error.param, code=error.code or "invalid_value") from None
        tokens = sum(job.request.tokens for job in self.open)
        if len(self.open) >= self.max_open or (self.open and tokens + request.tokens > self.max_tokens):
            raise overloaded(f"{len(self.open)} requests of {tokens:,} tokens are open: try again later")
        loop = asyncio.get_running_loop()
        job = _Job(request, loop.create_future(), loop)
        self.open.add(job)
        do(lambda: self._begin(job))
        try:
            return Answered(await job.done, job.bill)
        finally:
            self.open.discard(job)
            job.gone = True
            do(lambda: self._end(job))

    def bury(self, error: ApiError) -> None:
        """The engine's thread is no more: everybody who waits gets the error."""
        for job in list(self.open):
            _settle(job, error)

    # ------------------------------------------------------------ the engine's side

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.engine.idle

    def step(self) -> None:
        """Compute one batch and hand out what is whole."""
        try:
            events = self.engine.step()
        except ArrieroError as error:
            self._share()
            self.fail(server_error(str(error)))
            return
        except Exception:
            _log.exception("a step of the engine for vectors failed; its requests are ended")
            self._share()
            self.fail(server_error("the engine failed on this request; the server's log says why"))
            return
        self._share()
        for event in events:
            job = self._jobs.pop(event.request_id, None)
            if job is not None and event.values is not None:
                _settle(job, event.values)

    def fail(self, error: ApiError) -> None:
        """End every request that the engine has with an error."""
        jobs = list(self._jobs.values())
        for number in list(self._jobs):
            self.engine.abort(number)
        self._jobs.clear()
        for job in jobs:
            _settle(job, error)

    def _share(self) -> None:
        """Requests whose clients have left are not there any more: what was read for them is the others'."""
        if self.biller is not None:
            work = self.engine.last_step.items()
            self.biller.share(
                (self._jobs[number].bill, tokens) for number, tokens in work if number in self._jobs
            )

    def _begin(self, job: _Job) -> None:
        if job.gone:
            return
        try:
            job.number = self.engine.submit(job.request)
        except ArrieroError as error:
            _settle(job, server_error(str(error)))
            return
        self._jobs[job.number] = job

    def _end(self, job: _Job) -> None:
        if job.number is not None and self._jobs.pop(job.number, None) is not None:
            self.engine.abort(job.number)
        if self.biller is not None and self._metrics is not None:
            self.biller.close(job.bill, self._metrics)


def _settle(job: _Job, result: Values | ApiError) -> None:
    def settle() -> None:
        if job.done.done():
            return
        if isinstance(result, ApiError):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        _log.debug("the event loop is closed; an answer has no reader")
