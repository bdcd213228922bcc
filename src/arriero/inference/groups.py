"""The answers of one request: one, several, or the best of several."""

from __future__ import annotations

from dataclasses import replace

from arriero.inference.request import Completion, Event, Request
from arriero.inference.scheduler import Task


class Group:
    """A request's sequences on their way.

    Where the best of several are asked for, nothing is told before all have ended.
    """

    def __init__(self, request: Request, tasks: list[Task]) -> None:
        self.request = request
        self.open = list(tasks)
        self._selects = request.answers > request.n
        self._held: dict[Task, list[Event]] = {}

    def take(self, task: Task, events: list[Event]) -> list[Event]:
        """What is to be told now of what came of one of the sequences."""
        if any(event.finish_reason is not None for event in events):
            self.open.remove(task)
        if not self._selects:
            return events
        self._held.setdefault(task, []).extend(events)
        return [] if self.open else self._best()

    def _best(self) -> list[Event]:
        """All events of the ``n`` answers of highest mean log-probability, the best first; failed ones come last."""

        def rank(task: Task) -> tuple[bool, float, int]:
            failed = self._held[task][-1].finish_reason == "error"
            return failed, -task.sequence.mean_logprob, task.number

        best = sorted(self._held, key=rank)[: self.request.n]
        prompt = next(
            (e.prompt_logprobs for held in self._held.values() for e in held if e.prompt_logprobs), ()
        )
        told = [replace(e, index=i) for i, task in enumerate(best) for e in self._held[task]]
        plain = [replace(e, prompt_logprobs=()) if e.prompt_logprobs else e for e in told]
        return [replace(plain[0], prompt_logprobs=prompt), *plain[1:]]


def complete(events: list[Event]) -> Completion:
    """The whole answer from all its events."""
    last = events[-1]
    if last.finish_reason is None:
        raise ValueError("the answer has not ended")
    return Completion(
        request_id=last.request_id,
        ids=[e.token_id for e in events if e.token_id is not None],
        text="".join(e.text for e in events),
        logprobs=[e.logprob for e in events if e.logprob is not None],
        top=[e.top for e in events if e.logprob is not None],
        finish_reason=last.finish_reason,
        index=last.index,
        cached_tokens=events[0].cached_tokens,
        prompt_logprobs=events[0].prompt_logprobs,
    )
