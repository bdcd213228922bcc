"""Worker processes on this machine, each a fresh interpreter.

Neither fork (the parent may hold torch and running threads, whose locks a fork copies in whatever state they are) nor
multiprocessing's spawn (which imports the parent's main module again): a worker is ``python -c`` with a socket, and
imports what the work function needs and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from arriero.data.execute.run import Run, RunningExecutor, settle
from arriero.data.execute.tasks import Shard, Task, Work
from arriero.data.execute.worker import OUT_OF_MEMORY
from arriero.errors import ArrieroError

TRIES = 2
"""A task whose worker died is given to another one this often in all."""
_BREATH = 0.25
"""Seconds between two looks at ``stop``."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_IO_THREADS"), "1") | {"TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
"""A worker has one core; libraries that start a thread for each would only get into each other's way."""


def packed(work: Work) -> bytes:
    """The work function by its module and name, for another process.

    Raises:
        ArrieroError: it cannot be found there by its name.
    """
    inner = getattr(work, "func", work)
    if getattr(inner, "__module__", "") == "__main__":
        raise ArrieroError(
            "workers cannot import a function of the main script: put it into a module of its own"
        )
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ArrieroError(f"workers cannot be given {work!r}, only functions of a module: {error}") from None


class _Worker:
    """One process and the task that it has."""

    def __init__(self, memory: int | None) -> None:
        ours, theirs = socket.socketpair()
        root = Path(__file__).resolve().parents[3]  # the folder that holds the package
        code = f"import sys; sys.path.insert(0, {str(root)!r}); from arriero.data.execute.worker import main; main("
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{code}{theirs.fileno()}, {os.getpid()})"],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2, env={**os.environ, **ONE_THREAD},
            )  # fmt: skip
        self.connection = Connection(ours.detach())
        self.task: Task | None = None
        self.since = 0.0
        """When the task was given, on the monotonic clock."""
        self.late = False
        self._has_work = False
        self._greeting = sys.path, memory

    def give(self, work: bytes, task: Task) -> None:
        """Start a task. A worker that is dead already is noticed when its answer is read."""
        self.task, self.since = task, time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if not self._has_work:
                self.connection.send(self._greeting)
            self.connection.send((None if self._has_work else work, task))
        self._has_work = True

    def answer(self) -> tuple[str, Any]:
        """What came of the task.

        Raises:
            EOFError: the process died.
        """
        try:
            answer: tuple[str, Any] = self.connection.recv()
        except OSError:
            raise EOFError from None
        return answer

    def kill(self, *, late: bool = False) -> None:
        """Kill the process; that it died is read from its socket. ``late``: because its task takes too long."""
        self.late = self.late or late
        self._process.kill()

    def end(self) -> int:
        """Let an idle process end, by closing its socket, and give its exit status."""
        self.connection.close()
        try:
            return self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class PoolExecutor(RunningExecutor):
    """A process for each of ``workers`` tasks at a time; they live as long as one ``run``.

    A worker that dies loses its task only: the task is given to a new worker once more, then reported as failed.

    Args:
        shard: which of several machines this is.
        memory: bytes of data that each worker may hold.
        seconds: that a task may take.
    """

    def __init__(
        self,
        workers: int,
        shard: Shard | None = None,
        memory: int | None = None,
        seconds: float | None = None,
    ) -> None:
        self.workers = workers
        self._shard, self._memory, self._seconds = shard, memory, seconds

    def _work_off(self, run: Run, work: Work) -> None:
        message = packed(work)
        busy: dict[Any, _Worker] = {}
        try:
            for _ in range(min(self.workers, len(run.left))):
                self._start(run, message, busy, None)
            self._work(run, message, busy)
        finally:
            for worker in busy.values():
                worker.kill()
            for worker in busy.values():
                worker.end()

    def _start(self, run: Run, message: bytes, busy: dict[Any, _Worker], worker: _Worker | None) -> None:
        """Give the next task to ``worker`` or to a new one; without a task the worker ends."""
        task = run.next()
        if task is None:
            if worker is not None:
                worker.end()
            return
        worker = worker or _Worker(self._memory)
        busy[worker.connection] = worker
        worker.give(message, task)

    def _work(self, run: Run, message: bytes, busy: dict[Any, _Worker]) -> None:
        tried: Counter[str] = Counter()
        while busy:
            for connection in wait(list(busy), _BREATH):
                worker = busy[connection]
                assert worker.task is not None
                try:
                    kind, value = worker.answer()
                except EOFError:
                    self._died(run, worker, tried)
                    del busy[connection]
                    self._start(run, message, busy, None)
                    continue
                settle(run, worker.task, kind, value)
                del busy[connection]
                self._start(run, message, busy, worker)
            self._end_late(busy)
            run.breathe()

    def _died(self, run: Run, worker: _Worker, tried: Counter[str]) -> None:
        task, why = worker.task, _death(worker.end())
        assert task is not None
        if worker.late:
            why = f"took more than {self._seconds:g} s"
        tried[task.name] += 1
        if tried[task.name] < TRIES:
            run.again(task)
        else:
            run.failed(task, f"its worker {why}, {TRIES} times")

    def _end_late(self, busy: dict[Any, _Worker]) -> None:
        for worker in busy.values():
            if self._seconds is not None and time.monotonic() - worker.since > self._seconds:
                worker.kill(late=True)


def _death(status: int) -> str:
    """In words."""
    if status == OUT_OF_MEMORY:
        return "ran out of memory"
    if status < 0:
        with contextlib.suppress(ValueError):
            hint = " (by hand, or for want of memory)" if -status == signal.SIGKILL else ""
            return f"was killed by {signal.Signals(-status).name}{hint}"
        return f"was killed by signal {-status}"
    return f"ended with status {status}"
