"""What a run takes before its steps are under way: weights drawn, traces for the FLOP count, a first step that is longer."""

from __future__ import annotations

import time
from collections.abc import Callable

from arriero.cost.device import DeviceProfile, Rate
from arriero.training.objectives.base import Shape
from arriero.training.traced import TracedFlops, Work

START_SECONDS, FIRST_SECONDS = 1.5, 0.5
"""All of it on two cores; and all of it but the traces, where the profile tells of these."""
OTHER_SECONDS = 0.1
"""Reading the inputs and making the loop, where a trial of the run's own work tells of the rest."""
START_RATE = "pretrain.starts"
"""Of the probe's known model: traces take as long for a deep model as for a shallow one."""


def start_seconds(device: DeviceProfile, trial: str = "") -> float:
    """What a run takes beside its steps and checkpoints.

    Args:
        trial: key of a trial of its work, which stands for it if it was made.
    """
    own, usual = device.rate(start_key(trial)), device.rate(START_RATE)
    if own is not None:
        return OTHER_SECONDS + 1 / own.per_s
    return START_SECONDS if usual is None else FIRST_SECONDS + 1 / usual.per_s


def start_key(trial: str) -> str:
    """Under which the start that a trial measured is kept."""
    return f"{trial}.starts"


def starts(seconds: float) -> Rate:
    """A start of so many seconds as a profile keeps it: what it takes depends on what the process did before."""
    return Rate(per_s=1 / max(seconds, 1e-3), spread=0.5, unit="starts")


def counting_seconds(
    work: Work, shape: Shape, clock: Callable[[], float] = time.perf_counter
) -> float:  # fmt: skip
    """Measure the traces with which a run counts its FLOPs."""
    batch, counter, started = work.objective.synthetic(shape), TracedFlops(work), clock()
    counter.training(batch)
    counter.update()
    return clock() - started
