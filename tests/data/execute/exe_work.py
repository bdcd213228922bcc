"""Work functions that worker processes import."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from arriero.data.execute.exchange import ExchangeWriter, partition_of
from arriero.data.execute.tasks import Counts, Task
from arriero.errors import ArrieroError, DamagedArtifactError

PARTITIONS = 4


def write_square(task: Task) -> Counts:
    folder, number = task.payload
    path = Path(folder) / task.name
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(hashlib.sha256(str(number * number).encode()).digest())
    temporary.replace(path)
    return Counts(10, 10 - number % 3)


def note_and_square(task: Task, log: str) -> Counts:
    with Path(log).open("a") as file:
        file.write(f"{task.name} {os.getpid()}\n")
    return write_square(task)


def exchange(task: Task) -> None:
    folder, number = task.payload
    rng = np.random.default_rng(number)
    rows = np.zeros(1000 + number, [("key", "<u8"), ("row", "<i4"), ("hash", "<u4", (3,))])
    rows["key"] = rng.integers(0, 2**63, len(rows), dtype=np.uint64)
    rows["row"] = np.arange(len(rows)) + 10_000 * number
    with ExchangeWriter(Path(folder), task.name, PARTITIONS) as writer:
        writer.scatter(partition_of(rows["key"], PARTITIONS), rows)


def die(task: Task, how: str) -> Any:
    """Kill this process at tasks whose payload's second part is "poison"; ``once``: only at the first try."""
    folder, number = task.payload
    if number != "poison":
        return write_square(task)
    seen = Path(folder) / "seen"
    if how == "once" and seen.exists():
        return write_square(Task(task.name, (folder, 7)))
    seen.touch()
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "memory":
        raise MemoryError
    elif how == "allocate":
        return bytes(1 << 31)
    elif how == "exit":
        os._exit(3)
    elif how == "hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)
    return None


def refuse(task: Task) -> None:
    raise DamagedArtifactError(f"{task.name} is damaged; make it anew")


class TwoWordsError(ArrieroError):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def refuse_oddly(task: Task) -> None:
    raise TwoWordsError("cannot", "travel")


def bug(task: Task) -> Any:
    return write_square(task) if task.payload[1] != "poison" else {}["absent"]


def unsendable(task: Task) -> Any:
    return lambda: task


def about(task: Task) -> None:
    folder, _ = task.payload
    lines = [str("torch" in sys.modules), os.environ.get("OMP_NUM_THREADS", ""), str(os.getpid())]
    (Path(folder) / task.name).write_text("\n".join(lines))
    print("printed by a worker")  # noqa: T201


def sleep(task: Task) -> None:
    folder, seconds = task.payload
    (Path(folder) / f"{task.name}.{os.getpid()}").touch()
    time.sleep(seconds)
