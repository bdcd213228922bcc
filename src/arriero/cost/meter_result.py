"""What a meter found: the measured side of a ledger line, and what spoils it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from arriero.cost.estimate import Estimate
from arriero.cost.meter_clock import GAP_S
from arriero.cost.meter_energy import energy_of
from arriero.cost.meter_file import Segment
from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Machine, Tariffs

_STEAL_SHARE = 0.02
"""Of all processor time: from here on the wall time is not the stage's own."""
_CPU_PRESSURE_SHARE = 0.1
"""Of the wall time in which some task waited for a processor."""
_MEMORY_PRESSURE_SHARE = 0.02


class Measurement(BaseModel):
    """What a stage took. Energy is modelled from CPU seconds where no counter could be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    estimate: Estimate
    cpu_seconds: float
    """Of this process and all its descendants."""
    steal_seconds: float
    segments: int
    """Processes that worked on the stage: 1 plus the number of kills and interruptions it survived."""
    notes: list[str] = []
    proportional_bytes: int | None = None
    """Largest proportional set size of the process tree that was seen, None where the system tells none."""
    assumed_share: float | None = None
    """Share of the energy that no counter showed; None when the energy is unknown."""
    disturbances: list[str] = []
    """Why the wall time is not the stage's own: taken processors, a busy machine, sleep, clocks that jumped."""

    @property
    def disturbed(self) -> bool:
        """True when a prediction should not be judged by this wall time."""
        return bool(self.disturbances)


def measurement(
    segments: list[Segment], machine: Machine, tariffs: Tariffs | None, *,
    missing: dict[str, str] | None = None, notes: list[str] | None = None,
) -> Measurement:  # fmt: skip
    """The sheet of what these processes used together.

    Args:
        segments: at least one.
        missing: why there is no energy counter, by "package" and "accelerator".
        notes: what else a reader should know.
    """
    flops = sum(s.flops for s in segments)
    sheet = Estimate(
        seconds=_measured(sum(s.wall_seconds for s in segments), "s", "monotonic clock"),
        peak_memory=_measured(max(s.peak_bytes for s in segments), "B", "resident memory"),
        flops=_measured(flops, "FLOP", "counted from the operations' shapes")
        if flops
        else Quantity.unknown("FLOP", "the stage counts none"),
    )
    found = energy_of(segments, machine, tariffs, missing or {})
    if tariffs is not None:
        counted = found.assumed_share is not None and found.assumed_share < 0.5
        sheet = tariffs.priced(sheet, machine, found.energy, counted=counted)
    else:
        sheet = sheet.model_copy(update={"energy": found.energy})
    strange = disturbances(segments, machine.cores)
    return Measurement(
        estimate=sheet, cpu_seconds=sum(s.cpu_seconds for s in segments),
        steal_seconds=sum(s.steal_seconds for s in segments), segments=len(segments), notes=[*(notes or []), *strange],
        proportional_bytes=max(s.proportional_bytes for s in segments) or None,
        assumed_share=found.assumed_share, disturbances=strange,
    )  # fmt: skip


def disturbances(segments: list[Segment], cores: int) -> list[str]:
    """What makes the wall time of these processes no measure of the stage, a line each."""
    wall = sum(s.wall_seconds for s in segments)
    lines = []

    def told(seconds: float, of: float, share: float, line: str) -> None:
        if of > 0 and seconds > share * of:
            lines.append(line.format(s=seconds, p=seconds / of))

    told(sum(s.steal_seconds for s in segments), wall * cores, _STEAL_SHARE,
         "the hypervisor took {s:.1f} CPU seconds away: the wall time is too long by about that")  # fmt: skip
    told(sum(s.cpu_pressure_seconds for s in segments), wall, _CPU_PRESSURE_SHARE,
         "tasks waited for a processor {p:.0%} of the time: others were at work, or threads outnumber cores")  # fmt: skip
    told(sum(s.memory_pressure_seconds for s in segments), wall, _MEMORY_PRESSURE_SHARE,
         "everything waited for memory {p:.0%} of the time: the machine was swapping")  # fmt: skip
    told(sum(s.asleep_seconds for s in segments), 1, 0,
         "the machine slept for {s:.0f} s, which are not counted")  # fmt: skip
    told(sum(s.jumped_seconds for s in segments), 1, 0,
         "a clock jumped by {s:.0f} s, which are not counted")  # fmt: skip
    told(sum(s.gap_seconds for s in segments), 1, 0,
         f"no sample for {{s:.0f}} s in stretches of over {GAP_S:g} s: the process or the machine was held")  # fmt: skip
    return lines


def _measured(value: float, unit: str, source: str) -> Quantity:
    return Quantity.exact(float(value), unit, "measured", source)
