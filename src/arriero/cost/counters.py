"""What a meter reads: clocks, processor time, memory, energy counters. Tests put synthetic ones in their place."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from arriero.cost import procfs

POWERCAP = Path("/sys/class/powercap")


class EnergyCounter(Protocol):
    """An energy counter that only grows."""

    name: str

    def joules(self) -> float | None:
        """Joules since the counter was made, or None when there is nothing to read (yet)."""


@dataclass
class RaplCounter:
    """Package (and memory) energy that the processor counts, through Linux's powercap files.

    The files count microjoules and wrap around at ``max_energy_range_uj``; read at least once a minute.
    They count the whole package, other programs' share included.
    """

    zones: list[Path]
    name: str = "RAPL"
    _last: dict[Path, int] = field(default_factory=dict)
    _joules: float = 0.0

    @classmethod
    def find(cls, root: Path = POWERCAP) -> RaplCounter | None:
        """The counter of all packages, or None where there is none or it may not be read."""
        zones = [
            zone
            for zone in sorted(root.glob("intel-rapl:*"))
            if _zone_name(zone).startswith(("package", "dram"))
        ]
        if not any(_zone_name(zone).startswith("package") for zone in zones):
            return None
        counter = cls(zones)
        return counter if counter.joules() is not None else None

    def joules(self) -> float | None:
        try:
            for zone in self.zones:
                now = int((zone / "energy_uj").read_text())
                before = self._last.get(zone, now)
                step = now - before
                if step < 0:
                    step += int((zone / "max_energy_range_uj").read_text())
                self._last[zone] = now
                self._joules += step * 1e-6
        except (OSError, ValueError):
            return None
        return self._joules


def _zone_name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


class NvmlCounter:
    """Energy of the NVIDIA devices that this process uses, from their own counters (millijoules)."""

    name = "NVML"

    def __init__(self, nvml: Any, in_use: Callable[[], list[int]]) -> None:
        self._nvml = nvml
        self._in_use = in_use
        self._start = {index: self._read(index) for index in range(nvml.nvmlDeviceGetCount())}

    @classmethod
    def find(cls) -> NvmlCounter | None:
        """None without the driver or its Python library."""
        try:
            import pynvml

            pynvml.nvmlInit()
            return cls(pynvml, _cuda_devices_in_use)
        except Exception:
            # the library raises its own kinds of errors, and none of them is the stage's business
            return None

    def _read(self, index: int) -> float:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * 1e-3

    def joules(self) -> float | None:
        devices = self._in_use()
        if not devices:
            return None
        return sum(self._read(index) - self._start[index] for index in devices if index in self._start)


def _cuda_devices_in_use() -> list[int]:
    """Physical numbers of the devices that torch has opened in this process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list(range(torch.cuda.device_count()))
    return [int(part) for part in visible.split(",") if part.strip().isdigit()]


@dataclass
class Counters:
    """The readings a meter takes. All are of this process but ``steal`` and RAPL, which are the machine's."""

    wall: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = procfs.cpu_seconds
    steal: Callable[[], float] = procfs.steal_seconds
    resident: Callable[[], int] = procfs.resident_bytes
    peak: Callable[[], int] = procfs.peak_resident_bytes
    reset_peak: Callable[[], bool] = procfs.reset_peak
    package: EnergyCounter | None = None
    accelerator: EnergyCounter | None = None

    @classmethod
    def system(cls) -> Counters:
        """What this machine has."""
        return cls(package=RaplCounter.find(), accelerator=NvmlCounter.find())
