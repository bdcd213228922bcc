"""Time that a host takes from a virtual machine for others ("steal"): what a measurement saw of it, and what a run may expect.

Kernels on several threads wait for their last one, so whatever is taken from any of the threads is lost to all of them.
"""

from __future__ import annotations

import time
from pathlib import Path

from arriero.cost.procfs import PROC, read_text, steal_seconds

_MOST = 0.5
"""Largest share of the time that is believed to be taken in the long run."""


def calm_clock() -> float:
    """Seconds of a clock that stands still while the host takes a core away (in steps of the kernel's tick, 10 ms)."""
    return time.perf_counter() - steal_seconds()


def usual_share(proc: Path = PROC) -> float:
    """Share of the time in which cores had work that the host took from them, since boot; 0 where the system does not say."""
    try:
        fields = read_text(proc / "stat").split("\n", 1)[0].split()
        user, nice, system, _, _, irq, softirq, steal = (int(text) for text in fields[1:9])
    except (OSError, ValueError):
        return 0.0
    return steal / max(1, user + nice + system + irq + softirq + steal)


def expected_slowdown(calm_s: float, stolen_s: float, usual: float, threads: int) -> tuple[float, float]:
    """How many times longer than on a calm machine a run will take, and how far off that may be.

    What a neighbour takes now tells of the next minutes, and what was taken since boot of the hours: the mean of both counts,
    the larger says how far off it may be.

    Args:
        calm_s: seconds of a measurement just now, without what was taken.
        stolen_s: core seconds that were taken in it.
        usual: share that was taken since boot, of each core.
        threads: which wait for one another.
    """
    now = 1 + stolen_s / calm_s if calm_s > 0 else 1.0
    since_boot = 1 / (1 - min(_MOST, threads * usual))
    expected = (now + since_boot) / 2
    return expected, max(now, since_boot) - 1


__all__ = ["calm_clock", "expected_slowdown", "steal_seconds", "usual_share"]
