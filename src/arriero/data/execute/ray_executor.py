"""Tasks on Ray (ray-project/ray): core tasks, no Ray Data, so memory is ours to account for.

What a worker holds (models, lists) is kept by the work function itself, per process; Ray keeps its worker processes
for the next task, so no actors are needed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from arriero.data.execute.pool import ONE_THREAD, TRIES, packed
from arriero.data.execute.run import Run, RunningExecutor, settle
from arriero.data.execute.settings import cores
from arriero.data.execute.tasks import Shard, Task, Work
from arriero.errors import ArrieroError

_STORE_BYTES = 80 << 20
"""Ray's store of shared objects; only tasks and counts go through it (75 MiB is the least that Ray takes)."""
_BREATH = 0.25
_AHEAD = 2
"""Tasks submitted for each worker, so that none waits for the driver."""


class RayExecutor(RunningExecutor):
    """The pool's function on Ray's workers.

    Args:
        workers: tasks at a time; by default the cores of this machine, or of the cluster.
        address: of a cluster; None starts Ray on this machine for the time of ``run`` and ends it.
        shard: which of several drivers this is.

    Raises:
        ArrieroError: Ray is not installed.
    """

    def __init__(
        self, workers: int | None = None, address: str | None = None, shard: Shard | None = None
    ) -> None:
        self._ray = _ray()
        self._given, self._address, self._shard = workers, address, shard
        self.workers = workers or cores()

    def session(self) -> AbstractContextManager[None]:
        """Ray stays up for all runs inside; it takes seconds to start."""
        return self._started()

    def _work_off(self, run: Run, work: Work) -> None:
        message = packed(work)
        with self._started():
            remote = self._ray.remote(num_cpus=1, max_retries=TRIES - 1, retry_exceptions=False)(_attempt)
            self._work(run, remote, message)

    def _work(self, run: Run, remote: Any, message: bytes) -> None:
        path = list(sys.path)
        busy: dict[Any, Task] = {}
        try:
            while busy or run.left:
                while len(busy) < _AHEAD * self.workers and (task := run.next()):
                    busy[remote.remote(path, message, task)] = task
                ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=_BREATH)
                for reference in ready:
                    self._settle(run, busy.pop(reference), reference)
                run.breathe()
        finally:
            for reference in busy:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(reference, force=True)

    def _settle(self, run: Run, task: Task, reference: Any) -> None:
        exceptions = self._ray.exceptions
        try:
            kind, value = self._ray.get(reference)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            run.failed(task, f"its worker died, {TRIES} times ({type(error).__name__})")
        except exceptions.RayTaskError as error:  # the work function could not even be found there
            raise ArrieroError(f"task {task.name} could not start on Ray: {_last_line(error)}") from None
        else:
            settle(run, task, kind, value)

    @contextmanager
    def _started(self) -> Iterator[None]:
        """Ray, joined or started; one that was there before is left running."""
        if self._ray.is_initialized():
            self._take_workers()
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        own = {} if self._address else {
            "num_cpus": self.workers, "num_gpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False,
        }  # fmt: skip
        root = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        try:
            self._ray.init(
                address=self._address or "local", logging_level="ERROR", log_to_driver=False,
                configure_logging=False, runtime_env={"env_vars": {**ONE_THREAD, "PYTHONPATH": paths}}, **own,
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            where = self._address or "this machine"
            raise ArrieroError(f"Ray does not start or answer at {where}: {_last_line(error)}") from None
        try:
            self._take_workers()
            yield
        finally:
            self._ray.shutdown()

    def _take_workers(self) -> None:
        self.workers = self._given or max(1, int(self._ray.cluster_resources().get("CPU", 1)))


def _attempt(path: list[str], message: bytes, task: Task) -> tuple[str, Any]:
    """On a worker of Ray: as a worker of the pool does it."""
    from arriero.data.execute.worker import attempt

    sys.path.extend(entry for entry in path if entry not in sys.path)
    return attempt(pickle.loads(message), task)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ArrieroError(
            "the executor ray needs the package ray: install it with pip install 'arriero[data]'"
        ) from None


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]
