"""What the executors share: which tasks are left, counting them off, and the end of a run."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from arriero.data.execute.progress import Meter, Progress
from arriero.data.execute.tasks import (
    Counts,
    Failure,
    Shard,
    Task,
    Work,
    check_names,
    never,
    raise_failures,
    require_all,
    silent,
)
from arriero.errors import Interrupted

MOST_FAILURES = 10
"""A run with so many failed tasks ends at once."""

_LOOK = 0.5
"""Seconds between two looks for other shards' results."""


class Run:
    """One call of an executor's ``run``: the tasks of its shard that are not done, and what became of them."""

    def __init__(
        self,
        tasks: Sequence[Task],
        shard: Shard | None,
        done: Callable[[Task], bool],
        tick: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> None:
        """``shard``: tasks i-1, i-1+n, ... are this run's."""
        check_names(tasks)
        own = list(tasks) if shard is None else list(tasks[shard.index - 1 :: shard.count])
        self._all, self._shard, self._done, self._stop = tasks, shard, done, stop
        earlier = [task for task in own if done(task)]
        names = {task.name for task in earlier}
        self.left = deque(task for task in own if task.name not in names)
        self.failures: list[Failure] = []
        self._total = len(own)
        self._meter = Meter(tick, [task.bytes for task in own], [task.bytes for task in earlier])

    def next(self) -> Task | None:
        """The next task to begin; None when all were begun."""
        return self.left.popleft() if self.left else None

    def finished(self, task: Task, result: Any) -> None:
        """A task is through; ``result`` is what the work function returned."""
        counts = result if isinstance(result, Counts) else Counts()
        self._meter.finished(task.name, task.bytes, counts.documents, counts.kept)

    def again(self, task: Task) -> None:
        """A task is to be tried once more, next."""
        self.left.appendleft(task)

    def failed(self, task: Task, why: str) -> None:
        """A task was given up; the others go on, unless too many fail.

        Raises:
            ArrieroError: so many tasks failed that the fault is not theirs.
        """
        self.failures.append(Failure(task, why))
        if len(self.failures) >= MOST_FAILURES:
            self.end()

    def breathe(self) -> None:
        """Tell of the progress, and end when asked to.

        Raises:
            Interrupted: the run was asked to stop.
        """
        self._meter.tell()
        if self._stop():
            raise Interrupted(
                "stopped; finished tasks are kept, and the same command goes on with the others"
            )

    def end(self) -> None:
        """
        Raises:
            ArrieroError: tasks failed, or other shards' tasks are missing.
            Interrupted: the run was asked to stop while it waited for other shards.
        """
        raise_failures(self.failures, self._total)
        if self._shard is None:
            return
        until = time.monotonic() + self._shard.wait
        missing = [task for n, task in enumerate(self._all) if n % self._shard.count != self._shard.index - 1]
        while (missing := [task for task in missing if not self._done(task)]) and time.monotonic() < until:
            time.sleep(_LOOK)
            self.breathe()
        if missing:
            names = {task.name for task in missing}
            require_all(self._all, lambda task: task.name not in names, self._shard)


def settle(run: Run, task: Task, kind: str, value: Any) -> None:
    """What :func:`arriero.data.execute.worker.attempt` tells of a task.

    Raises:
        ArrieroError: the task raised one: it is for the user, and other tasks would raise it too.
    """
    if kind == "refused":
        raise value
    if kind == "error":
        run.failed(task, value)
    else:
        run.finished(task, value)


class RunningExecutor(ABC):
    """What the executors have in common: a run is begun, worked off and ended."""

    _shard: Shard | None

    def session(self) -> AbstractContextManager[None]:
        """For several runs one after the other; nothing is kept between them unless an executor says so."""
        return nullcontext()

    def run(
        self,
        work: Work,
        tasks: Sequence[Task],
        *,
        done: Callable[[Task], bool] = never,
        tick: Callable[[Progress], None] = silent,
        stop: Callable[[], bool] = never,
    ) -> None:
        """See :class:`arriero.data.execute.tasks.Executor`."""
        run = Run(tasks, self._shard, done, tick, stop)
        run.breathe()
        if run.left:
            self._work_off(run, work)
        run.end()

    @abstractmethod
    def _work_off(self, run: Run, work: Work) -> None:
        """Do all tasks that are left, telling ``run`` what became of each."""
