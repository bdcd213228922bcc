"""Facts of the machine and the software that made an artifact."""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from arriero.version import __version__

_LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors", "pydantic")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use (affinity counts; the machine may have more)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory in bytes, or what the control group allows when that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return total


@lru_cache(maxsize=1)
def host_facts() -> dict[str, str | int]:
    """Processor, cores, memory and system. No host name and no user name: artifacts get shared."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
    }


@lru_cache(maxsize=1)
def version_facts() -> dict[str, str]:
    """Versions of Arriero, Python and the libraries that decide on numbers."""
    versions = {"arriero": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
