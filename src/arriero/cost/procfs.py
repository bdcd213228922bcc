"""What the system says of this process: resident memory, CPU seconds, seconds taken by a hypervisor."""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Literal

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
Pressure = Literal["cpu", "memory"]


def read_text(file: Path) -> str:
    """The text of a small system file in three calls: each call lets go of the interpreter's lock, and a thread beside a
    busy one may wait long to get it back.

    Raises:
        OSError: it is not there, or must not be read.
    """
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, 1 << 16).decode("utf-8", "replace")
    finally:
        os.close(handle)


def resident_bytes(proc: Path = PROC) -> int:
    """Resident memory of this process now; where the system does not say, its peak so far."""
    return _status("VmRSS", proc) or _peak_by_rusage()


def peak_resident_bytes(proc: Path = PROC) -> int:
    """Largest resident memory since the process began or since :func:`reset_peak`."""
    return _status("VmHWM", proc) or _peak_by_rusage()


def reset_peak(proc: Path = PROC) -> bool:
    """Start the peak anew from the present resident memory; False where the system does not allow it."""
    try:
        (proc / "self" / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def steal_seconds(proc: Path = PROC) -> float:
    """CPU seconds that a hypervisor took from all cores since boot; 0 where the system does not say."""
    return _core_ticks(proc).get("steal", 0) / os.sysconf("SC_CLK_TCK")


def steal_share(proc: Path = PROC) -> float:
    """Share of the time in which cores had work that a hypervisor took from them, since boot; 0 where the system does not say."""
    ticks = _core_ticks(proc)
    return ticks.get("steal", 0) / max(1, sum(ticks.values()))


def pressure_seconds(kind: Pressure, proc: Path = PROC) -> float:
    """Seconds for which tasks had to wait: some task for a processor, or all of them for memory; 0 where not told.

    Of this control group where it has such a file, else of the machine (Linux' pressure stall information).
    """
    line = "some" if kind == "cpu" else "full"
    for file in (CGROUP / f"{kind}.pressure", proc / "pressure" / kind):
        try:
            found = re.search(rf"^{line} .*total=(\d+)", read_text(file), re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found.group(1)) * 1e-6
    return 0.0


def boot_seconds() -> float:
    """Seconds since boot, those of a suspended machine included (``CLOCK_MONOTONIC`` leaves them out)."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else time.monotonic()


def process_age(proc: Path = PROC) -> float | None:
    """Seconds since this process was started, interpreter included; None where the system does not say."""
    try:
        fields = read_text(proc / "self" / "stat").rpartition(")")[2].split()
    except OSError:
        return None
    return boot_seconds() - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> float:
    """User plus system time of this process and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _core_ticks(proc: Path) -> dict[str, int]:
    """Ticks in which all cores had work since boot, by kind; guests' are among their users'. Empty where not told."""
    try:
        fields = [int(text) for text in read_text(proc / "stat").split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return {}
    kinds = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    if len(fields) < len(kinds):
        return {}
    return {name: ticks for name, ticks in zip(kinds, fields, strict=True) if name not in ("idle", "iowait")}


def _status(field: str, proc: Path) -> int | None:
    try:
        text = read_text(proc / "self" / "status")
    except OSError:
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None


def _peak_by_rusage() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
