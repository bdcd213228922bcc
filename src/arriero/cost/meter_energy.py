"""Energy of a stage from what its processes' counters showed, and a model for what no counter covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arriero.cost.counters_nvml import POLLED_SPREAD
from arriero.cost.meter_file import Segment
from arriero.cost.quantity import Quantity, total
from arriero.cost.tariffs import Machine, Tariffs


@dataclass(frozen=True)
class EnergyFound:
    """Energy, and the share of it that was not read off a counter (None when the energy is unknown)."""

    energy: Quantity
    assumed_share: float | None


def energy_of(
    segments: Sequence[Segment], machine: Machine, tariffs: Tariffs | None, missing: Mapping[str, str]
) -> EnergyFound:
    """Joules of all the processes that worked on a stage.

    Args:
        missing: why there is no counter, by "package" and "accelerator".
    """
    host = [_package(segment, machine, tariffs, missing.get("package", "")) for segment in segments]
    parts = [part for found in host for part in found]
    if machine.device != "cpu" or any(s.accelerator_joules is not None for s in segments):
        for segment in segments:
            parts += _accelerator(segment, machine, tariffs, missing.get("accelerator", ""))
    return _summed(parts)


def _package(segment: Segment, machine: Machine, tariffs: Tariffs | None, why: str) -> list[Quantity]:
    if segment.package_joules is not None:
        read = _counted(segment.package_joules, "RAPL counters of the whole package")
        return [read, *_filled(segment.package_filled_joules)]
    if tariffs is None:
        return [Quantity.unknown("J", why or "no energy counter can be read")]
    cores = tariffs.core_energy(machine, segment.cpu_seconds, segment.wall_seconds)
    cores = cores.model_copy(update={"source": "; ".join(filter(None, (cores.source, why)))})
    if tariffs.watts is not None:
        return [cores]
    peak = Quantity.exact(float(segment.peak_bytes), "B", "measured")
    return [
        cores,
        tariffs.memory_energy(peak, Quantity.exact(segment.wall_seconds, "s", "measured")),
    ]


def _accelerator(segment: Segment, machine: Machine, tariffs: Tariffs | None, why: str) -> list[Quantity]:
    joules = segment.accelerator_joules
    if joules is not None and segment.accelerator_polled:
        source = "NVML power samples joined up: this device counts no joules"
        return [
            Quantity.band(joules, POLLED_SPREAD, "J", "modelled", source),
            *_filled(segment.accelerator_filled_joules),
        ]
    if joules is not None:
        return [_counted(joules, "NVML counters"), *_filled(segment.accelerator_filled_joules)]
    if tariffs is None or machine.device == "cpu":
        return [Quantity.unknown("J", why or "the accelerator's energy was not read all the time")]
    if tariffs.watts is not None:  # they are the whole machine's, and counted with the host
        return []
    seconds = Quantity.exact(segment.wall_seconds, "s", "measured")
    watts = tariffs.accelerator_power(machine)
    return [watts.times(seconds, "J", watts.source)]


def _counted(joules: float, source: str) -> Quantity:
    return Quantity.exact(joules, "J", "measured", source)


def _filled(joules: float) -> list[Quantity]:
    """Seconds without a reading, at the mean power of the others: anything from none of it to twice it."""
    if joules <= 0:
        return []
    source = "seconds without a believable reading, at the mean power of the others"
    return [Quantity(value=joules, low=0.0, high=2 * joules, unit="J", basis="modelled", source=source)]


def _summed(parts: list[Quantity]) -> EnergyFound:
    found = total(parts, "J")
    unknown = [part for part in parts if not part.known]
    sources = "; ".join(dict.fromkeys(part.source for part in unknown or parts if part.source))
    if not found.known:
        return EnergyFound(found.model_copy(update={"source": sources or found.source}), None)
    share = assumed_share(parts)
    if 0 < share < 1:
        sources = f"{share_text(share)}; {sources}"
    return EnergyFound(found.model_copy(update={"source": sources}), share)


def assumed_share(parts: Sequence[Quantity]) -> float:
    """The share of a sum that no counter showed, between 0 and 1. Unknown parts count for nothing."""
    everything = sum(part.value or 0.0 for part in parts)
    assumed = sum(part.value or 0.0 for part in parts if part.basis != "measured")
    return assumed / everything if everything > 0 else float(any(part.basis != "measured" for part in parts))


def share_text(share: float, what: str = "energy") -> str:
    """ "68 % of this energy is assumed"."""
    return (
        f"{100 * share:.0f} % of this {what} is assumed"
        if share >= 0.01
        else f"under 1 % of this {what} is assumed"
    )
