"""Switches of the whole process that libraries read once, when they are loaded."""

from __future__ import annotations

import os
import platform
import sys

SPIN_COUNT = "1000"


def let_waiting_threads_sleep() -> None:
    """Make OpenMP's threads sleep soon instead of spinning while they wait for one another.

    A spinning thread keeps a core from the thread it waits for as soon as anything else wants to run. On two cores, a
    training step of a tiny model takes some 10 % longer with this when the machine is idle (larger models notice
    nothing); beside two busy processes it took 46 ms, and up to 1,290 ms with the library's default
    (benchmarks/waiting.py). The user's own setting of either variable is left alone.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


TUNABLES, NO_SMALL_CACHE = "GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"


def start_again_without_small_cache() -> None:
    """Replace this process by itself with the C library's cache of small blocks switched off; where it is off, go on.

    Tensors are aligned, and the splinters that alignment leaves beside each go to that cache, where they never join
    the freed tensor again: it cannot be reused for one of the same size. It matters where tensors have no range of their
    own (``arriero.native.tensor_memory``; benchmarks/tensor_memory.py); without the cache small allocations take a little
    longer. The library reads the switch when a process starts, hence the new start; call before anything heavy is loaded.
    The process keeps its number, its files and its arguments. Nothing happens on other systems or C libraries.
    """
    wanted = os.environ.get(TUNABLES, "")
    if "glibc.malloc.tcache_count" in wanted or platform.libc_ver()[0] != "glibc":
        return
    tunables = ":".join(part for part in (wanted, NO_SMALL_CACHE) if part)
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, TUNABLES: tunables})
    except OSError:  # it is a saving, and no more
        return
