"""Requests of the encoder engine that wait or run, and which of their inputs go into the next batch."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from arriero.inference.encoder_request import EncoderRequest


@dataclass(eq=False)
class Job:
    """A request on its way.

    Attributes:
        left: numbers of the inputs that are not done, shortest first.
        values: what has been found for each input.
    """

    id: int
    request: EncoderRequest
    left: list[int] = field(init=False)
    values: list[np.ndarray | None] = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.request.inputs
        self.left = sorted(range(len(inputs)), key=self.length)
        self.values = [None] * len(inputs)

    def length(self, number: int) -> int:
        """Tokens of an input."""
        return len(self.request.inputs[number].ids)

    @property
    def begun(self) -> bool:
        """Whether any of its inputs has been in a batch."""
        return len(self.left) < len(self.values)

    def take(self, longest: int) -> int | None:
        """The longest input left that has at most ``longest`` tokens."""
        place = bisect_right(self.left, longest, key=self.length)
        return self.left.pop(place - 1) if place else None


def next_batch(jobs: list[Job], token_budget: int, padded: bool) -> list[tuple[Job, int]]:
    """Inputs for one batch, longest first, all of the same task.

    The oldest request's longest input leads, so that every step brings that request on; what else fits into the budget
    comes from all requests in the order of their lengths, so that those of like length meet.

    Args:
        padded: every input counts as many tokens as the longest.
    """
    task = jobs[0].request.task
    candidates = [job for job in jobs if job.request.task == task and job.left]
    lead = candidates[0].left[-1]
    longest = candidates[0].length(lead)
    batch = [(candidates[0], candidates[0].left.pop())]
    room = token_budget - longest
    while room > 0:
        limit = longest if not padded or room >= longest else 0
        found = _longest(candidates, min(limit, room))
        if found is None:
            break
        batch.append(found)
        room -= longest if padded else found[0].length(found[1])
    batch.sort(key=lambda one: -one[0].length(one[1]))
    return batch


def _longest(jobs: list[Job], limit: int) -> tuple[Job, int] | None:
    """The longest input of at most ``limit`` tokens, of the older request where there are several."""
    best: Job | None = None
    most = 0
    for job in jobs:
        place = bisect_right(job.left, limit, key=job.length)
        if place and job.length(job.left[place - 1]) > most:
            best, most = job, job.length(job.left[place - 1])
    if best is None:
        return None
    number = best.take(limit)
    assert number is not None
    return best, number
