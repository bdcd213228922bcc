"""What a client waits for: the pieces of its answers, on the event loop's side."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from arriero.inference.request import Event, PromptToken, Request
from arriero.serving.bill import Bill
from arriero.serving.errors import ApiError, server_error, unavailable

MERGE_FROM = 64
"""Unread pieces from which on new text joins the unread text of the same answer."""
MAX_UNREAD_STEPS = 4096
"""Most unread tokens with log-probabilities, which cannot be joined into less."""


@dataclass
class Piece:
    """A piece of one answer.

    ``steps`` are the tokens whose log-probabilities were asked for; ``tokens`` counts all of them. ``prompt`` comes
    once, with the first piece of a prompt's first answer.
    """

    index: int
    text: str = ""
    tokens: int = 0
    steps: list[Event] = field(default_factory=list)
    finish_reason: str | None = None
    cached_tokens: int = 0
    prompt: tuple[PromptToken, ...] = ()

    def add(self, event: Event) -> None:
        """Take an event of the same answer in."""
        self.text += event.text
        self.tokens += event.token_id is not None
        self.finish_reason = event.finish_reason
        self.cached_tokens = max(self.cached_tokens, event.cached_tokens)
        self.prompt = self.prompt or event.prompt_logprobs
        if event.logprob is not None:
            self.steps.append(event)


class Ticket:
    """One client's requests to the engine; iterating gives the pieces of all their answers.

    Memory stays bounded however slowly they are read: text that piles up is joined, log-probabilities that pile up
    end the answer.

    Args:
        requests: a request for each prompt. Answer ``i`` of prompt ``p`` has the index ``p * n + i``.
        seconds: time limit of the whole.
    """

    def __init__(self, requests: Sequence[Request], seconds: float) -> None:
        self.requests = tuple(requests)
        self.firsts = [0, *accumulate(r.n for r in requests)][:-1]
        self.answers = sum(r.n for r in requests)
        self.sequences = sum(r.answers for r in requests)
        self.tokens = sum(r.answers * (len(r.prompt) + (r.sampling.max_tokens or 0)) for r in requests)
        self.created = time.monotonic()
        self.deadline = self.created + seconds
        self.closed = False
        self.bill = Bill()
        self._seconds = seconds
        self._pieces: deque[Piece] = deque()
        self._unread: dict[int, Piece] = {}
        self._unread_steps = 0
        self._error: ApiError | None = None
        self._open = set(range(self.answers))
        self._begun = False
        self._ready = asyncio.Event()

    def put(self, index: int, event: Event) -> None:
        """An event of answer ``index``. Called on the event loop."""
        if self._error is not None or self.closed:
            return
        if event.finish_reason == "error":
            self.fail(server_error(event.error or "the engine failed on this request"))
            return
        piece = self._unread.get(index) if len(self._pieces) >= MERGE_FROM else None
        if piece is None:
            piece = Piece(index)
            self._pieces.append(piece)
            self._unread[index] = piece
        piece.add(event)
        self._unread_steps += event.logprob is not None
        if self._unread_steps > MAX_UNREAD_STEPS:
            self.fail(
                ApiError(
                    400,
                    "the client reads too slowly: the answer was ended",
                    kind="server_error",
                    code="slow_reader",
                )
            )
        self._ready.set()

    def fail(self, error: ApiError) -> None:
        """End with an error; what is unread is dropped."""
        if self._error is None:
            self._error = error
            self._pieces.clear()
            self._unread.clear()
            self._ready.set()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Every piece, until every answer has its last one, which has a finish reason.

        An answer that the time limit cuts off ends as one that its token limit cuts off.

        Raises:
            ApiError: the engine failed, or the time limit passed before it began.
        """
        while self._open:
            try:
                async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
                    piece = await self._next()
            except TimeoutError:
                for index in sorted(self._stop_at_deadline()):
                    yield Piece(index, finish_reason="length")
                return
            self._begun = True
            if piece.finish_reason is not None:
                self._open.discard(piece.index)
            yield piece

    async def _next(self) -> Piece:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            self._ready.clear()
            await self._ready.wait()
        piece = self._pieces.popleft()
        if self._unread.get(piece.index) is piece:
            del self._unread[piece.index]
        self._unread_steps -= len(piece.steps)
        return piece

    def _stop_at_deadline(self) -> set[int]:
        if not self._begun:
            raise unavailable(
                f"the server did not get to this request within its limit of {self._seconds:g} s: try again later",
                code="time_limit",
            )
        left, self._open = self._open, set()
        return left
