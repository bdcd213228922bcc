"""Time that a host takes from a virtual machine for others ("steal"): what a measurement saw of it, and what a run may expect.

Kernels on several threads wait for their last one, so whatever is taken from any of the threads is lost to all of them.
"""

from __future__ import annotations

import time

from arriero.cost.procfs import steal_seconds

_MOST = 0.5
"""Largest share of the time that is believed to be taken."""


class CalmClock:
    """Seconds of a clock that goes slower while the host takes cores away, at half the pace at least.

    The kernel tells of it in ticks of 10 ms, and of all cores, whoever works on them: what is more than half of the time that
    passed is taken off later, up to a second of it.
    """

    def __init__(self) -> None:
        self._calm = self._owed = 0.0
        self._wall, self._stolen = time.perf_counter(), steal_seconds()

    def __call__(self) -> float:
        wall, stolen = time.perf_counter(), steal_seconds()
        passed, owed = wall - self._wall, self._owed + stolen - self._stolen
        taken = min(owed, _MOST * passed)
        self._calm += passed - taken
        self._owed = min(owed - taken, 1.0)
        self._wall, self._stolen = wall, stolen
        return self._calm


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
    now = 1 + min(stolen_s, calm_s) / calm_s if calm_s > 0 else 1.0
    since_boot = 1 / (1 - min(_MOST, threads * usual))
    expected = (now + since_boot) / 2
    return expected, max(now, since_boot) - 1
