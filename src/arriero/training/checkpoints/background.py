"""One job at a time on a thread of its own, with the processor seconds it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Job = Callable[[Callable[[], None]], None]
"""Called with a function that it calls from time to time, so that its processor seconds are known."""


class Background:
    """Runs jobs one after the other; what a job raises comes out of :meth:`collect`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._spent = 0.0  # by the jobs that are over
        self._spending = 0.0  # by the one that runs

    @property
    def held(self) -> bool:
        """True from :meth:`start` until :meth:`collect`."""
        return self._thread is not None

    @property
    def busy(self) -> bool:
        """True while a job runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, job: Job) -> None:
        """Run ``job``; the one before must have been collected."""
        assert self._thread is None, "at most one job"
        self._error = None
        # a daemon: who leaves at once does not wait for the disk
        self._thread = threading.Thread(target=self._run, args=(job,), name="arriero-checkpoint", daemon=True)
        self._thread.start()

    def collect(self) -> None:
        """Wait for the job, if there is one, and raise what it raised."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        if self._error is not None:
            raise self._error

    def cpu_seconds(self) -> float:
        """Processor seconds of all jobs so far."""
        return self._spent + self._spending

    def _run(self, job: Job) -> None:
        try:
            job(self._beat)
        except BaseException as error:
            self._error = error
        self._spent += time.thread_time()
        self._spending = 0.0

    def _beat(self) -> None:
        self._spending = time.thread_time()
