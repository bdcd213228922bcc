"""Which device a question is about, and all that is known of it for time, memory, power and price."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.cluster_table import reliability_table
from arriero.cost.device import DeviceProfile, load_profile
from arriero.cost.hardware.table import Hardware, find
from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Machine, Tariffs
from arriero.errors import ArrieroError


@dataclass(frozen=True)
class Device:
    """One kind of device.

    Attributes:
        hardware: its row in the table; None for this machine, of which ``profile`` was measured.
        machine: what the tariffs know it by. node: devices of one machine.
        capacity: bytes that it gives to programs.
        failures: its name in the table of failure rates, or None.
    """

    name: str
    hardware: Hardware | None
    profile: DeviceProfile | None
    machine: Machine
    capacity: Quantity
    node: int = 8
    failures: str | None = None

    @property
    def accelerator(self) -> bool:
        """A device of its own beside the processor, with its own memory."""
        return self.hardware is not None and self.hardware.kind != "cpu"


def find_device(name: str | None, tariffs: Tariffs) -> Device:
    """The device of this name, or this machine.

    Raises:
        ArrieroError: no such device, or this machine was never calibrated.
    """
    return this_machine() if name is None else _listed(find(name), tariffs)


def _listed(hardware: Hardware, tariffs: Tariffs) -> Device:
    figure = "usable_gib" if hardware.get("usable_gib") is not None else "memory_gib"
    names = (hardware.name, *hardware.drivers)
    known = (reliability_table().name(name) for name in names)
    return Device(
        hardware.name, hardware, None, _machine(hardware, tariffs), hardware.quantity(figure),
        failures=next((name for name in known if name is not None), None),
    )  # fmt: skip


def _machine(hardware: Hardware, tariffs: Tariffs) -> Machine:
    """The tariffs' name of a device: its own, or one of those that its driver gives."""
    names = (hardware.name, *hardware.drivers)
    listed = next((name for name in names if tariffs.prices.accelerator(name) is not None), hardware.name)
    return Machine(cpu="", cores=0, threads=0, device="cuda", accelerator=listed)


def this_machine() -> Device:
    """The machine that `arriero calibrate` measured.

    Raises:
        ArrieroError: it never has, or something has changed since.
    """
    profile = load_profile()
    if profile is None:
        raise ArrieroError(
            "this machine was never measured: run `arriero calibrate`, or name a device with --hardware"
        )
    stale = profile.stale()
    if stale is not None:
        raise ArrieroError(
            f"the profile of this machine {stale}: run `arriero calibrate` again, or give --hardware"
        )
    name = profile.accelerator or f"this machine ({profile.cpu}, {profile.cores} cores)"
    return Device(
        name, None, profile, Machine.of(profile),
        Quantity.exact(profile.memory_bytes, "B", "measured", "this machine's memory"), node=1,
    )  # fmt: skip
