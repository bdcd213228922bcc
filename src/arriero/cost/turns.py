"""Loops whose turns are alike: a trace goes through one of them and counts it for all.

A loop over thousands of rows a few at a time (``training.objectives.linear_head``) does the same operations on tensors
of the same shapes in every full turn, and leaves no more memory behind than the turn before it. Without values there is
nothing to learn from the third turn; with values every turn is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

_counters: list[Callable[[int], AbstractContextManager[None]]] = []


def turns(length: int, step: int) -> Iterator[slice]:
    """Slices of ``step`` that cover ``range(length)``, the last one as long as is left.

    While something counts (:func:`counting`), the full turns after the first stand for one another: the second is
    given, counted as often as there are such, then the rest.
    """
    full = length // step
    if not _counters or full < 3:
        yield from (slice(start, min(start + step, length)) for start in range(0, length, step))
        return
    yield slice(0, step)
    with _counters[-1](full - 1):
        yield slice(step, 2 * step)
    if full * step < length:
        yield slice(full * step, length)


@contextmanager
def counting(times: Callable[[int], AbstractContextManager[None]]) -> Iterator[None]:
    """While the body runs, ``times(n)`` surrounds what counts ``n`` times."""
    _counters.append(times)
    try:
        yield
    finally:
        _counters.pop()
