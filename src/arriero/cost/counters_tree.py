"""What a process' descendants use: CPU seconds and memory of a tree of processes, from /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from arriero.cost import procfs
from arriero.cost.procfs import PROC

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """Numbers of the living processes below ``pid``, parents before their children; empty where /proc says nothing."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = list(_children(waiting.pop(), proc))
        found += below
        waiting += below
    return found


def _children(pid: int, proc: Path) -> Iterator[int]:
    try:
        tasks = list((proc / str(pid) / "task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            yield from map(int, procfs.read_text(task / "children").split())
        except (OSError, ValueError):  # it ended a moment ago
            continue


def cpu_of(pid: int, proc: Path = PROC) -> float:
    """User and system seconds of a process and of the children that it has waited for; 0 when it is gone."""
    try:
        text = procfs.read_text(proc / str(pid) / "stat")
        fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
        return sum(map(int, fields[11:15])) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0


def mapped_bytes(pid: int | str, proc: Path = PROC) -> tuple[int, int]:
    """(private, proportional) resident bytes: pages of its own, and with its share of the pages that others map too.

    (0, 0) when the process is gone or the system does not say.
    """
    try:
        text = procfs.read_text(proc / str(pid) / "smaps_rollup")
    except OSError:
        return 0, 0
    sizes = {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    return sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0), sizes.get("Pss", 0)


@dataclass
class ProcessTree:
    """This process and its descendants.

    Under torchrun (``LOCAL_WORLD_SIZE`` over 1) the processor time is that of all processes which torchrun started
    here, as they work on the same stage; memory stays that of this process and its own children.
    """

    pid: int = field(default_factory=os.getpid)
    proc: Path = PROC
    siblings: bool = field(default_factory=lambda: int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1)
    _cpu: float = 0.0

    def cpu(self) -> float:
        """CPU seconds of the tree, of the ended and the living. Never falls: what was used stays used."""
        others = descendants(os.getppid() if self.siblings else self.pid, self.proc)
        living = sum(cpu_of(pid, self.proc) for pid in others if pid != self.pid)
        self._cpu = max(self._cpu, procfs.cpu_seconds() + living)
        return self._cpu

    def children_bytes(self) -> int:
        """Private resident bytes of the descendants: what comes on top of this process' own resident memory."""
        return sum(mapped_bytes(pid, self.proc)[0] for pid in descendants(self.pid, self.proc))

    def proportional_bytes(self) -> int:
        """Proportional set size of the whole tree: pages shared with other programs count by their share."""
        return sum(mapped_bytes(pid, self.proc)[1] for pid in [self.pid, *descendants(self.pid, self.proc)])
