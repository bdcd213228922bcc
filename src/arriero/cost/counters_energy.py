"""Energy from counters that only grow: what to make of a step, and when not to believe one.

A counter may wrap around, begin again at zero (a driver was reloaded), stand still (it is not wired), jump, or go
unread for so long that it may have wrapped unseen. Each of these is told, and the seconds it spoils are filled in
from the rest and called modelled, never passed off as measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from arriero.cost.quantity import Basis

STILL_S = 5.0
"""A live counter of a processor or accelerator moves many times a second; one that has not for so long is dead."""
_SHORT_S = 0.5
"""A counter that never moved in a stage this short may be alive all the same."""
_UNREAD = "could not be read"
_LEAST_COVERED = 0.5
"""Share of the time that a counter must have been right for, or its energy is unknown."""


class CounterUnavailable(Exception):  # noqa: N818 - a fact about the machine, told to the user in words
    """There is no such counter here, or it may not be read. The message says why."""


@dataclass(frozen=True)
class Energy:
    """Joules since a counter was first observed.

    Attributes:
        counted: what the counter showed. filled: what was added, at the mean power of the rest, for seconds without
            a believable reading; as much again above it, or nothing of it, may be true.
    """

    counted: float = 0.0
    filled: float = 0.0

    def __add__(self, other: Energy) -> Energy:
        return Energy(self.counted + other.counted, self.filled + other.filled)


class EnergyCounter(Protocol):
    """What a meter observes about once a second."""

    name: str

    @property
    def basis(self) -> Basis:
        """measured: the hardware counts joules; modelled: worked out from power samples."""

    def observe(self, now: float) -> Energy | None:
        """Energy since the first observation, at ``now`` seconds of a monotonic clock; None when it is unknown."""

    def faults(self) -> list[str]:
        """What was wrong with the readings so far, a line each."""


@dataclass(eq=False)
class Register:
    """One hardware counter of joules, and how far to believe its steps.

    Args:
        name: for messages.
        read: joules at that second of the clock; OSError or ValueError when it cannot be read just now, NaN when what
            happened since the reading before is lost.
        wraps_at: joules at which it begins again at zero, None when it does not.
        most_watts: no step may mean more power than this.
    """

    name: str
    read: Callable[[float], float]
    wraps_at: float | None = None
    most_watts: float = 1000.0
    _last: tuple[float, float] | None = None
    _counted: float = 0.0
    _covered: float = 0.0
    _missing: float = 0.0
    _still: float = 0.0
    _why: dict[str, float] = field(default_factory=dict)

    def observe(self, now: float) -> None:
        """Take a reading and judge the step since the one before."""
        try:
            joules = self.read(now)
        except (OSError, ValueError):
            self._note(_UNREAD, 0.0)
            self._last = self._last or (now, math.nan)  # the next reading counts for this time too
            return
        if self._last is not None:
            self._judge(now - self._last[0], self._last[1], joules)
        self._last = (now, joules)

    def _judge(self, seconds: float, earlier: float, joules: float) -> None:
        step, most = joules - earlier, self.most_watts * max(seconds, 1.0)
        wrapped = step + (self.wraps_at or 0.0)
        if math.isnan(step):
            self._miss(_UNREAD, max(seconds, 0.0))
        elif self.wraps_at is not None and most > self.wraps_at:
            self._miss("was not read for so long that it may have wrapped around unseen", seconds)
        elif step == 0:
            self._stood(max(seconds, 0.0))
        elif 0 < step <= most:
            self._count(step, max(seconds, 0.0))
        elif self.wraps_at is not None and 0 < wrapped <= most:
            self._count(wrapped, max(seconds, 0.0))
        else:
            self._miss("began again" if step < 0 else "jumped", max(seconds, 0.0))

    def _count(self, joules: float, seconds: float) -> None:
        self._counted += joules
        self._covered += seconds + (self._still if self._still <= STILL_S else 0.0)
        self._still = 0.0

    def _stood(self, seconds: float) -> None:
        """A few unchanged readings in a row are covered by the next step; many mean that the counter is dead."""
        before, self._still = self._still, self._still + seconds
        if self._still > STILL_S:
            self._miss("stood still", self._still if before <= STILL_S else seconds)

    def _miss(self, why: str, seconds: float) -> None:
        if why != "stood still":
            self._still = 0.0
        self._missing += seconds
        self._note(why, seconds)

    def _note(self, why: str, seconds: float) -> None:
        self._why[why] = self._why.get(why, 0.0) + seconds

    def energy(self) -> Energy | None:
        """What was counted and what was filled in; None when too little of the time is covered to say."""
        if self._missing == 0:
            dead = self._counted == 0 and self._still > _SHORT_S
            return None if dead else Energy(self._counted)
        if self._covered < _LEAST_COVERED * (self._covered + self._missing):
            return None
        return Energy(self._counted, self._counted / self._covered * self._missing)

    def faults(self) -> list[str]:
        return [
            f"{self.name} {why}" + (f" ({seconds:.0f} s without a figure)" if seconds else "")
            for why, seconds in self._why.items()
        ]


@dataclass
class Registers:
    """Several registers as one :class:`EnergyCounter`; unknown as soon as one of them is."""

    name: str
    registers: list[Register]
    basis: Basis = "measured"

    def observe(self, now: float) -> Energy | None:
        for register in self.registers:
            register.observe(now)
        found = [register.energy() for register in self.registers]
        known = [energy for energy in found if energy is not None]
        return sum(known, Energy()) if found and len(known) == len(found) else None

    def faults(self) -> list[str]:
        return [line for register in self.registers for line in register.faults()]
