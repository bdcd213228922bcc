"""All tasks in this process, one after the other: for tests and small work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from arriero.data.execute.progress import Progress
from arriero.data.execute.run import Run
from arriero.data.execute.tasks import Shard, Task, Work, never, silent


class InlineExecutor:
    """No processes. What kills a task kills this process."""

    workers = 1

    def __init__(self, shard: Shard | None = None) -> None:
        self._shard = shard

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Nothing is kept between runs."""
        return contextlib.nullcontext()

    def run(
        self,
        work: Work,
        tasks: Sequence[Task],
        *,
        done: Callable[[Task], bool] = never,
        tick: Callable[[Progress], None] = silent,
        stop: Callable[[], bool] = never,
    ) -> None:
        """See :class:`arriero.data.execute.tasks.Executor`. Other exceptions than ArrieroError come as they are."""
        run = Run(tasks, self._shard, done, tick, stop)
        run.breathe()
        while task := run.next():
            try:
                run.finished(task, work(task))
            except MemoryError:
                run.failed(task, "out of memory")
            run.breathe()
        run.end()
