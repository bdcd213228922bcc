"""All tasks in this process, one after the other: for tests and small work."""

from __future__ import annotations

from arriero.data.execute.run import Run, RunningExecutor
from arriero.data.execute.tasks import Shard, Work


class InlineExecutor(RunningExecutor):
    """No processes. What kills a task kills this process."""

    workers = 1

    def __init__(self, shard: Shard | None = None) -> None:
        self._shard = shard

    def _work_off(self, run: Run, work: Work) -> None:
        """Other exceptions than ArrieroError come as they are."""
        while task := run.next():
            try:
                run.finished(task, work(task))
            except MemoryError:
                run.failed(task, "out of memory")
            run.breathe()
