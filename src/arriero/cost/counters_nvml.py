"""Energy of the NVIDIA devices that this process uses: their own counters, or where they have none, power samples."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arriero.cost.counters_energy import CounterUnavailable, Energy, Register
from arriero.cost.quantity import Basis

_MOST_WATTS = 3000.0
"""Above what any device draws; driver counters do not wrap, so this only tells a jump."""
POLLED_SPREAD = 0.35
"""Power readings of an A100 or H100 look at a quarter of the time (arXiv 2312.02741): hence no counter's precision."""


class NvmlCounter:
    """Joules of the devices in use, each from the moment the meter began.

    Args:
        nvml: the library (``pynvml``), or what stands for it in a test.
        in_use: the devices by UUID ("GPU-…") or physical number; none as long as the process has opened none.
    """

    name = "NVML"

    def __init__(self, nvml: Any, in_use: Callable[[], list[str]]) -> None:
        self._nvml = nvml
        self._in_use = in_use
        self._polled = False
        self._registers: dict[str, Register] = {}
        for index in range(nvml.nvmlDeviceGetCount()):
            self._add(str(index), nvml.nvmlDeviceGetHandleByIndex(index))

    @classmethod
    def find(cls) -> NvmlCounter:
        """
        Raises:
            CounterUnavailable: there is no driver, no device, or not the library that asks it.
        """
        try:
            import pynvml
        except ImportError:
            raise CounterUnavailable(
                "NVIDIA's counters need the package nvidia-ml-py (pip install 'arriero[gpu]')"
            ) from None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, torch_devices)
        except pynvml.NVMLError as error:
            raise CounterUnavailable(f"no NVIDIA device can be asked: {error}") from None

    @property
    def basis(self) -> Basis:
        return "modelled" if self._polled else "measured"

    def _add(self, number: str, handle: Any) -> None:
        """One register under the device's number and under its UUID."""
        try:
            uuid = self._nvml.nvmlDeviceGetUUID(handle)
        except Exception:  # the library raises its own kinds; without a UUID the number has to do
            uuid = number
        uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
        register = Register(f"device {number}", self._reader(handle), None, _MOST_WATTS)
        self._registers[number] = self._registers[uuid] = register

    def _reader(self, handle: Any) -> Callable[[float], float]:
        ask = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        try:
            ask(handle)
        except Exception:  # an older device: no counter, only its power now
            self._polled = True
            return Polled(lambda: self._nvml.nvmlDeviceGetPowerUsage(handle) * 1e-3).joules

        def joules(now: float) -> float:
            try:
                return float(ask(handle)) * 1e-3
            except Exception as error:
                raise ValueError(str(error)) from None

        return joules

    def observe(self, now: float) -> Energy | None:
        for register in dict.fromkeys(self._registers.values()):
            register.observe(now)
        used = [self._registers.get(device) for device in self._in_use()]
        found = [register.energy() if register is not None else None for register in used]
        known = [energy for energy in found if energy is not None]
        return sum(known, Energy()) if found and len(known) == len(found) else None

    def faults(self) -> list[str]:
        used = [self._registers[device] for device in self._in_use() if device in self._registers]
        return [line for register in used for line in register.faults()]


@dataclass
class Polled:
    """Joules from samples of the power: each pair of neighbours is joined by a straight line.

    Args:
        watts: power now.
    """

    watts: Callable[[], float]
    longest_s: float = 10.0
    """Samples further apart say nothing of what lies between them."""
    _last: tuple[float, float] | None = None
    _joules: float = 0.0

    def joules(self, now: float) -> float:
        """Joules so far; NaN after a gap in the sampling.

        Raises:
            ValueError: the device does not tell its power.
        """
        try:
            watts = float(self.watts())
        except Exception as error:  # the library raises its own kinds
            raise ValueError(str(error)) from None
        last, self._last = self._last, (now, watts)
        if last is None:
            return self._joules
        if now - last[0] > self.longest_s:
            return math.nan
        self._joules += (now - last[0]) * (watts + last[1]) / 2
        return self._joules


def torch_devices() -> list[str]:
    """UUIDs ("GPU-…") of the devices that torch can see in this process, once it has opened one.

    The UUID holds whatever order CUDA counts the devices in; physical numbers stand in where torch tells none.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return []
    count = torch.cuda.device_count()
    uuids = [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(count)]
    if all(uuids):
        return [uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}" for uuid in uuids]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        [part.strip() for part in visible.split(",") if part.strip()]
        if visible
        else [str(i) for i in range(count)]
    )
