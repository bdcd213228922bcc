"""Switches of the whole process that libraries read once, when they are loaded."""

from __future__ import annotations

import os

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
