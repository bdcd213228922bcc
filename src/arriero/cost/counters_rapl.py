"""Energy that the processor's packages and memory count, through Linux's powercap files (RAPL)."""

from __future__ import annotations

import errno
from pathlib import Path

from arriero.cost.counters_energy import CounterUnavailable, Register, Registers

POWERCAP = Path("/sys/class/powercap")
_JOULES = 1e-6
_MOST_WATTS = 1000.0
"""Above what any package draws; the smallest counters in use wrap after 65 kJ, which takes a minute at this power."""


def find_rapl(root: Path = POWERCAP) -> Registers:
    """The counters of every package and of the memory beside it.

    Zones inside a package (core, uncore) would count twice and are left out; so is psys, which holds the packages.
    They count the whole package, other programs' share included.

    Raises:
        CounterUnavailable: there is none, or it may not be read; the message says which.
    """
    zones = [
        zone for zone in sorted(root.glob("intel-rapl:*")) if _name(zone).startswith(("package", "dram"))
    ]
    if not any(_name(zone).startswith("package") for zone in zones):
        raise CounterUnavailable(
            "the system shows no energy counter of the processor (none in most virtual machines)"
        )
    for zone in zones:
        _check(zone)
    return Registers("RAPL", [_register(zone) for zone in zones])


def _check(zone: Path) -> None:
    file = zone / "energy_uj"
    try:
        int(file.read_text())
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise CounterUnavailable(
                f"{file} may only be read by root (`sudo chmod a+r {file}` lets you)"
            ) from None
        raise CounterUnavailable(f"{file} could not be read: {error.strerror}") from None
    except ValueError:
        raise CounterUnavailable(f"{file} holds no number") from None


def _register(zone: Path) -> Register:
    try:
        wraps_at = int((zone / "max_energy_range_uj").read_text()) * _JOULES
    except (OSError, ValueError):
        wraps_at = None
    file = zone / "energy_uj"
    return Register(
        f"RAPL {_name(zone)} ({zone.name})", lambda now: int(file.read_text()) * _JOULES, wraps_at, _MOST_WATTS
    )  # fmt: skip


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""
