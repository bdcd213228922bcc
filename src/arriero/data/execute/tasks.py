"""What every executor takes: small tasks, and one function that does them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from arriero.data.execute.progress import Progress
from arriero.errors import ArrieroError

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NAMED = 5
"""So many names are told in a message."""


@dataclass(frozen=True)
class Task:
    """One piece of work.

    ``name`` is unique among the tasks of a run and can be a file's name. ``payload`` is small and can be pickled: it
    says which bytes to work on, it is not these bytes. ``bytes`` is the size of the input, for the progress only.
    """

    name: str
    payload: Any = None
    bytes: int = 0

    def __post_init__(self) -> None:
        if not _SAFE.fullmatch(self.name):
            raise ValueError(f"'{self.name}' cannot name a task: letters, digits, '.', '-' and '_' only")


@dataclass(frozen=True)
class Counts:
    """What a work function may return, for the progress: documents seen, and those of them that were kept."""

    documents: int = 0
    kept: int = 0


Work = Callable[[Task], Any]
"""A module-level function (or a :func:`functools.partial` of one); its results lie in files. It may run twice."""


@dataclass(frozen=True)
class Shard:
    """This run is the ``index``-th of ``count`` (from 1) that share the tasks and the folder of results.

    ``wait``: seconds for which it waits for the others' tasks at the end of a step.
    """

    index: int
    count: int
    wait: float = 0.0

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Executor(Protocol):
    """Runs one function over many tasks. Every kind gives the same files."""

    workers: int

    def session(self) -> AbstractContextManager[None]:
        """For several runs one after the other: what takes long to start stays up inside."""
        ...

    def run(
        self,
        work: Work,
        tasks: Sequence[Task],
        *,
        done: Callable[[Task], bool] = ...,
        tick: Callable[[Progress], None] = ...,
        stop: Callable[[], bool] = ...,
    ) -> None:
        """Do all tasks that are not ``done``, in their order, as many at a time as there are workers.

        Args:
            done: whether a task's result lies there whole; asked once for each task, before anything starts.
            tick: called at every finished task, and about twice a second in between.
            stop: asked as often; once it is true the workers are ended and :class:`~arriero.errors.Interrupted`
                is raised.

        Raises:
            ArrieroError: a task raised one (nothing further is begun), or workers died at it twice (all others are
                done first), or other shards' tasks are missing.
            Interrupted: ``stop`` was true.
        """
        ...


def never(*_: Any) -> bool:
    """The default of ``done`` and ``stop``."""
    return False


def silent(_: Progress) -> None:
    """The default of ``tick``."""


def check_names(tasks: Iterable[Task]) -> None:
    """
    Raises:
        ValueError: two tasks have one name.
    """
    seen: set[str] = set()
    for task in tasks:
        if task.name in seen:
            raise ValueError(f"two tasks are named '{task.name}'")
        seen.add(task.name)


def require_all(tasks: Sequence[Task], done: Callable[[Task], bool], shard: Shard | None = None) -> None:
    """The step before a gathering one: refuses while the work of other shards is missing.

    Raises:
        ArrieroError: some tasks are not done; names them, and the shards whose tasks they are.
    """
    missing = [(index, task) for index, task in enumerate(tasks) if not done(task)]
    if not missing:
        return
    names = listed([task.name for _, task in missing])
    if shard is None:
        raise ArrieroError(f"{len(missing):,} of {len(tasks):,} tasks are not done: {names}")
    count = shard.count
    shards = listed([f"{number + 1}/{count}" for number in sorted({index % count for index, _ in missing})])
    raise ArrieroError(
        f"shard {shard} has done its tasks, but {len(missing):,} of {len(tasks):,} are missing, of the shards {shards}:"
        f" {names}; run these shards, then this one again (or let it wait for them: shard_wait)"
    )


def listed(names: Sequence[str]) -> str:
    """The first few of the names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


@dataclass(frozen=True)
class Failure:
    """A task that could not be done, and why."""

    task: Task
    why: str


def raise_failures(failures: Sequence[Failure], total: int) -> None:
    """
    Raises:
        ArrieroError: there are failures; one line that names the tasks.
    """
    if not failures:
        return
    first = min(failures, key=lambda failure: failure.task.name)
    others = sorted(failure.task.name for failure in failures if failure is not first)
    raise ArrieroError(
        f"{len(failures):,} of {total:,} tasks failed: {first.task.name}: {first.why}"
        + (f"; also {listed(others)}" if others else "")
        + "; the others are done, and the same command tries the failed ones again"
    )
