"""Whether a run fits its device: bytes by kind with their bands, against what the device gives to programs."""

from __future__ import annotations

from arriero.cost.memory import KINDS, MemoryByKind
from arriero.cost.quantity import Quantity
from arriero.planning.estimate.device_source import Device
from arriero.planning.estimate.figures import GIB
from arriero.planning.estimate.sheet import Fit

_CONTEXT = (0.5 * GIB, 0.7 * GIB, 0.9 * GIB)
"""Kernels and bookkeeping of an accelerator's process: low, middle, high. Not among what its allocator counts."""
_MESSAGES = (0.35 * GIB, 0.9 * GIB, 1.5 * GIB)
"""Buffers of torch.distributed and NCCL, where there are several devices."""


def runtime_bytes(device: Device, count: int) -> tuple[float, float, float]:
    """What a process on that device, one of ``count``, holds before it allocates anything: (low, middle, high)."""
    if device.profile is not None and not device.accelerator:
        held = float(device.profile.process_bytes)
        return held, held, held
    if count == 1:
        return _CONTEXT
    low, middle, high = (a + b for a, b in zip(_CONTEXT, _MESSAGES, strict=True))
    return low, middle, high


def fit_of(memory: MemoryByKind, device: Device, count: int) -> Fit:
    """The memory of one device, ``memory`` without its runtime, against the capacity."""
    low, middle, high = runtime_bytes(device, count)
    source = f"closed form of the traced model ({memory.basis})"
    kinds = {
        name: Quantity.exact(float(getattr(memory, name)), "B", "modelled", source)
        for name in KINDS
        if name != "runtime" and float(getattr(memory, name)) > 0
    }
    kinds["runtime"] = Quantity(
        value=middle, low=low, high=high, unit="B", basis="modelled", source="process, kernels, messages"
    )
    spare = tuple(float(value) for value in memory.margin)
    if spare[1]:
        kinds["margin"] = Quantity(
            value=sum(spare) / 2, low=spare[0], high=spare[1], unit="B", basis="modelled", source="held by the allocator"
        )  # fmt: skip
    total = Quantity(
        value=sum(kind.value or 0.0 for kind in kinds.values()), low=sum(kind.low or 0.0 for kind in kinds.values()),
        high=sum(kind.high or 0.0 for kind in kinds.values()), unit="B", basis="modelled", source=source,
    )  # fmt: skip
    return Fit(kinds, total, device.capacity)


def measured_fit(memory: MemoryByKind, device: Device, resident: Quantity) -> Fit:
    """The memory of a process on this machine: ``resident`` is what such processes were measured to take in all, and
    what it is over the tensors and the bare process is the margin."""
    found = fit_of(memory, device, 1)
    kinds = {name: kind for name, kind in found.kinds.items() if name != "margin"}
    known = sum(kind.value or 0.0 for kind in kinds.values())
    if resident.value is not None and resident.value > known:
        kinds["margin"] = Quantity.exact(
            resident.value - known, "B", "modelled", "blocks that the allocator cannot join"
        )
    return Fit(kinds, resident, device.capacity)
