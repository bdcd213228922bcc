"""What a meter reads: clocks, processor time, memory, energy counters. Tests put synthetic ones in their place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from arriero.cost import procfs
from arriero.cost.counters_energy import CounterUnavailable, EnergyCounter
from arriero.cost.counters_nvml import NvmlCounter
from arriero.cost.counters_rapl import find_rapl
from arriero.cost.counters_tree import ProcessTree

T = TypeVar("T")


def _none() -> int:
    return 0


@dataclass
class Counters:
    """The readings a meter takes.

    Attributes:
        wall: seconds of a clock that nobody sets. boot: of one that runs on while the machine is suspended.
        cpu: seconds of this process and its descendants. steal: of the whole machine, as are the two pressures.
        resident, peak: bytes of this process; ``reset_peak`` begins the peak anew, or says that it cannot.
        children: bytes that its descendants hold beside it. proportional: its tree's proportional set size; dear to
            read, so it is read as seldom as its cost asks for.
        package, accelerator: energy counters, None where there are none; ``missing`` says why, by those names.
    """

    wall: Callable[[], float] = time.monotonic
    boot: Callable[[], float] | None = None
    cpu: Callable[[], float] = procfs.cpu_seconds
    steal: Callable[[], float] = procfs.steal_seconds
    cpu_pressure: Callable[[], float] = field(default=lambda: procfs.pressure_seconds("cpu"))
    memory_pressure: Callable[[], float] = field(default=lambda: procfs.pressure_seconds("memory"))
    resident: Callable[[], int] = procfs.resident_bytes
    peak: Callable[[], int] = procfs.peak_resident_bytes
    reset_peak: Callable[[], bool] = procfs.reset_peak
    children: Callable[[], int] = _none
    proportional: Callable[[], int] = _none
    package: EnergyCounter | None = None
    accelerator: EnergyCounter | None = None
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def system(cls) -> Counters:
        """What this machine has."""
        tree, missing = ProcessTree(), {}

        def found(name: str, find: Callable[[], T]) -> T | None:
            try:
                return find()
            except CounterUnavailable as why:
                missing[name] = str(why)
                return None

        return cls(
            boot=procfs.boot_seconds, cpu=tree.cpu, children=tree.children_bytes, proportional=tree.proportional_bytes,
            package=found("package", find_rapl), accelerator=found("accelerator", NvmlCounter.find), missing=missing,
        )  # fmt: skip
