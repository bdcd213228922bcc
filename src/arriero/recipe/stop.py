"""Signals that ask a run to stop, and how long it may take about it."""

from __future__ import annotations

import os
import signal
import threading
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from arriero.errors import ArrieroError, Interrupted
from arriero.recipe.progress import Display

GRACE = "ARRIERO_GRACE_SECONDS"


def grace_seconds(environment: Mapping[str, str]) -> float:
    """Seconds between SIGTERM and the end of the process, from ``ARRIERO_GRACE_SECONDS``; 0 = as long as it takes.

    Raises:
        ArrieroError: not a number of seconds.
    """
    text = environment.get(GRACE, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise ArrieroError(f"{GRACE} is '{text}'; it should be seconds, for example 30")
    return seconds


class StopFlag:
    """Set by the first Ctrl-C or SIGTERM; a second one stops at once.

    A scheduler that ends a job sends SIGTERM, and SIGKILL some time later. Where ``ARRIERO_GRACE_SECONDS`` says how much
    later, the process ends by then even if no safe point came: the next run goes on from the last checkpoint.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._grace = grace_seconds(os.environ)

    def set(self) -> None:
        self._event.set()

    def __bool__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def on_signals(self, display: Display) -> Iterator[None]:
        """Listen while the body runs (in the main thread; elsewhere the caller has its own signals)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        timer = threading.Timer(self._grace, _end, [self._grace, display])
        timer.daemon = True

        def handle(number: int, frame: types.FrameType | None) -> None:
            if self:
                raise KeyboardInterrupt
            self.set()
            if number == signal.SIGTERM and self._grace:
                timer.start()
            display.say(
                "stopping at the next safe point … (Ctrl-C again stops at once; nothing finished is lost)"
            )

        previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            timer.cancel()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _end(seconds: float, display: Display) -> None:
    display.say(f"no safe point came within {seconds:g} s; the same command goes on from the last checkpoint")
    os._exit(Interrupted.exit_code)
