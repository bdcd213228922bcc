"""The interpreter's lock, handed over soon to a thread that seldom asks for it.

A thread that keeps letting go of the lock for a moment (every small read or write does) wakes the waiting one before its
wait is over, and takes the lock again first. The waiting one then asks for the lock only if a whole switch interval goes by
without such a moment, so beside such a loop it may come seconds late, and again at each of its own reads. When the interval
is shorter than what lies between the moments, the lock is asked for and handed over.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["handed_over_soon"]

_WAIT_S = 2e-5
"""Seconds that a thread waits for the lock before it asks for it."""


class _Interval:
    """The process's switch interval, short while anyone wants it so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanting = 0
        self._usual = 0.0

    def shorten(self) -> None:
        with self._lock:
            if not self._wanting:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(min(self._usual, _WAIT_S))
            self._wanting += 1

    def restore(self) -> None:
        with self._lock:
            self._wanting -= 1
            if not self._wanting:
                sys.setswitchinterval(self._usual)


_interval = _Interval()


@contextmanager
def handed_over_soon() -> Iterator[None]:
    """Threads of this process get the lock soon after they want it; contexts may overlap in any order.

    It has to hold before a thread begins to wait, as one that waits already cannot say so. Where no two threads want the
    lock at once it costs nothing; two that interpret all the time lose a part of theirs to the changes between them.
    """
    _interval.shorten()
    try:
        yield
    finally:
        _interval.restore()
