"""How a global step is run: phases of tasks that each leave one file, and a marker when all is done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arriero.artifacts.commit import PARTIAL, write_json_atomic
from arriero.data.dedup.rows import DROP, DROPS, Slot, parts_of_rows, read_slots, save_array, starts_of
from arriero.data.execute.exchange import ExchangeWriter, exchange_file, read_partition
from arriero.data.execute.inline import InlineExecutor
from arriero.data.execute.progress import Progress
from arriero.data.execute.tasks import Executor, Task

EXCHANGE, DONE = "exchange", "done.json"
SMALL = 4 << 20
"""A corpus of fewer bytes of text is worked on in this process: starting others would take longer."""
_ROOM = 4
"""Sorting a partition's rows takes a few times their bytes."""


@dataclass(frozen=True)
class Job:
    """What one task of a phase is about; ``output`` is the file that says that it is done.

    ``slot`` for work on a part, ``number`` for work on a partition or another range of rows.
    """

    work: Path
    step: str
    output: Path
    settings: Any
    after: tuple[str, ...] = ()
    slot: Slot | None = None
    number: int = 0
    partitions: int = 1

    @property
    def part(self) -> Slot:
        """The part that the job is about."""
        assert self.slot is not None
        return self.slot

    def exchange(self, name: str) -> Path:
        """Folder of an exchange of the step."""
        return self.work / self.step / EXCHANGE / name

    def writer(self, name: str, partitions: int | None = None, dtype: Any = None) -> ExchangeWriter:
        """This job's file in an exchange."""
        count = self.partitions if partitions is None else partitions
        return ExchangeWriter(self.exchange(name), _name(self), count, dtype)

    def read(self, name: str, dtype: Any) -> NDArray[Any]:
        """This job's partition (or part) of an exchange."""
        index = self.slot.index if self.slot is not None else self.number
        return read_partition(self.exchange(name), index, dtype=dtype)


def _name(job: Job) -> str:
    return f"{job.slot.index if job.slot is not None else job.number:06d}"


@dataclass(frozen=True)
class Steps:
    """The surroundings of all steps of one run."""

    work: Path
    slots: list[Slot]
    executor: Executor
    memory_bytes: int
    tick: Callable[[Progress], None]
    stop: Callable[[], bool]

    @property
    def n_rows(self) -> int:
        return self.slots[-1].start + self.slots[-1].rows if self.slots else 0

    @property
    def text_bytes(self) -> int:
        return sum(slot.text_bytes for slot in self.slots)

    def partitions(self, row_bytes: int, rows: int) -> int:
        """Partitions of an exchange, so that sorting one keeps within the memory of a task."""
        return max(1, -(-row_bytes * rows * _ROOM // self.memory_bytes))

    def once(self, step: str, body: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The report of a step: what an earlier run left, or that of ``body``."""
        marker = self.work / step / DONE
        if not marker.exists():
            write_json_atomic(marker, body())
        found: dict[str, Any] = json.loads(marker.read_bytes())
        return found

    def sweep(self, steps: Sequence[str]) -> None:
        """Remove what tasks of these steps left for each other, and what killed ones left of their files."""
        for step in steps:
            shutil.rmtree(self.work / step / EXCHANGE, ignore_errors=True)
        for path in self.work.rglob(f".*{PARTIAL}"):
            path.unlink(missing_ok=True)

    def map_parts(
        self, step: str, phase: str, work: Callable[[Job], None], settings: Any,
        *, output: str, after: tuple[str, ...] = (), partitions: int = 1,
    ) -> None:  # fmt: skip
        """One task a part. ``output``: the exchange (``exchange:NAME``), or the folder of .npy files, that it writes."""
        jobs = [
            Job(
                self.work,
                step,
                self._output(step, output, slot),
                settings,
                after,
                slot,
                partitions=partitions,
            )
            for slot in self.slots
        ]
        self._run(step, phase, work, jobs, [slot.text_bytes for slot in self.slots])

    def map_numbers(
        self, step: str, phase: str, work: Callable[[Job], None], settings: Any,
        *, output: str, count: int, partitions: int = 1,
    ) -> None:  # fmt: skip
        """One task a partition (or other number below ``count``)."""
        jobs = [
            Job(
                self.work,
                step,
                self._output(step, output, None, n),
                settings,
                number=n,
                partitions=partitions,
            )
            for n in range(count)
        ]
        self._run(step, phase, work, jobs, [0] * count)

    def gather_drops(self, step: str) -> None:
        """Bring the rows of the exchange ``drops`` to their parts."""
        self.map_parts(step, "gather", gather_drops, None, output=DROPS)

    def _output(self, step: str, output: str, slot: Slot | None, number: int = 0) -> Path:
        folder = self.work / step
        if output.startswith("exchange:"):
            name = f"{slot.index if slot is not None else number:06d}"
            return exchange_file(folder / EXCHANGE / output.removeprefix("exchange:"), name)
        return folder / output / f"{slot.name if slot is not None else f'{number:06d}'}.npy"

    def _run(
        self, step: str, phase: str, work: Callable[[Job], None], jobs: Sequence[Job], sizes: Sequence[int]
    ) -> None:
        tasks = [
            Task(f"{step}.{phase}.{number:06d}", job, size)
            for number, (job, size) in enumerate(zip(jobs, sizes, strict=True))
        ]
        executor = InlineExecutor() if len(tasks) == 1 or self.text_bytes < SMALL else self.executor
        executor.run(partial(do_job, work), tasks, done=is_done, tick=self.tick, stop=self.stop)


def do_job(work: Callable[[Job], None], task: Task) -> None:
    """What executors run: the phase's function on the task's job."""
    work(task.payload)


def is_done(task: Task) -> bool:
    """Whether the task's file lies there."""
    return bool(task.payload.output.exists())


def to_parts(writer: ExchangeWriter, rows: NDArray[Any], slots: Sequence[Slot]) -> None:
    """Send structured rows to the parts of their field ``row``."""
    n_rows = slots[-1].start + slots[-1].rows if slots else 0
    writer.scatter(parts_of_rows(rows["row"], starts_of(slots), n_rows), rows)


def send_drops(job: Job, drops: NDArray[Any]) -> None:
    """Write a job's drops, by part."""
    slots = read_slots(job.work)
    with job.writer(DROPS, len(slots), DROP) as writer:
        to_parts(writer, drops, slots)


def gather_drops(job: Job) -> None:
    """The drops of one part, by row, each row once."""
    found = job.read(DROPS, DROP)
    save_array(job.output, found[np.argsort(found["row"], kind="stable")])
