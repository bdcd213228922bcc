"""When things happened to requests: queue, first token, time between tokens, end."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from arriero.inference.request import Event
from arriero.serving.metrics import Metrics
from arriero.serving.ticket import Ticket


class Watch:
    """Belongs to the engine's thread; times are those at which tokens leave the engine."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started: set[Ticket] = set()
        self._last: dict[Ticket, dict[int, float]] = {}

    def step(
        self,
        worked: Collection[int],
        tickets: Mapping[int, tuple[Ticket, int]],
        events: Sequence[tuple[Ticket, int, Event]],
    ) -> None:
        """A step has ended: it worked on these engine ids, and gave these events."""
        now = time.monotonic()
        for number in worked:
            ticket = tickets[number][0] if number in tickets else None
            if ticket is not None and ticket not in self._started:
                self._started.add(ticket)
                self._metrics.queue.observe(now - ticket.created)
        for ticket, first, event in events:
            self._event(ticket, first + event.index, event, now)

    def _event(self, ticket: Ticket, index: int, event: Event, now: float) -> None:
        last = self._last.setdefault(ticket, {})
        if event.token_id is not None:
            if not last:
                self._metrics.first_token.observe(now - ticket.created)
            if index in last:
                self._metrics.between_tokens.observe(now - last[index])
            last[index] = now
        if event.finish_reason is not None:
            self._metrics.finished.add(reason=event.finish_reason)

    def end(self, ticket: Ticket) -> None:
        """The request has ended, or its client has gone."""
        self._started.discard(ticket)
        if self._last.pop(ticket, None):
            self._metrics.duration.observe(time.monotonic() - ticket.created)
