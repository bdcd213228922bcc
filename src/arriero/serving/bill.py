"""What requests cost: the engine's steps, shared among the requests that they worked on.

Time without work is nobody's. Each figure says what it rests on; what nobody knows stays unknown.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arriero.cost.counters import Counters
from arriero.cost.counters_energy import Energy, EnergyCounter
from arriero.cost.quantity import Quantity, total
from arriero.cost.tariffs import Machine, Tariffs

if TYPE_CHECKING:
    from arriero.serving.metrics import Metrics

WINDOW_SECONDS = 1.0
"""Energy counters are read about so often while there is work."""


@dataclass
class Bill:
    """A request's share of the steps: seconds of the machine and of its processors."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0


class BusyPower:
    """Mean watts while there was work, by an energy counter."""

    def __init__(self, counter: EnergyCounter, source: str) -> None:
        self._counter, self._source = counter, source
        self._begun, self._energy = time.monotonic(), counter.observe(time.monotonic())
        self._joules = self._seconds = 0.0

    def begin(self, now: float) -> None:
        """Work begins after a time without."""
        self._begun, self._energy = now, self._counter.observe(now)

    def go_on(self, now: float) -> None:
        """Work has gone on till now."""
        if now - self._begun < WINDOW_SECONDS:
            return
        energy = self._counter.observe(now)
        if energy is not None and self._energy is not None:
            self._joules += _joules(energy) - _joules(self._energy)
            self._seconds += now - self._begun
        self._begun, self._energy = now, energy

    def watts(self) -> Quantity:
        """Unknown until there has been work for one window."""
        if not self._seconds:
            return Quantity.unknown("W", "the counter has not been read often enough yet")
        return Quantity.exact(self._joules / self._seconds, "W", self._counter.basis, self._source)


class Biller:
    """Reads clocks and energy counters around the steps. Belongs to the engine's thread.

    Args:
        accelerator: name of the accelerator that the model is on; None for the CPU.
    """

    def __init__(
        self, tariffs: Tariffs, *, counters: Counters | None = None, machine: Machine | None = None,
        accelerator: str | None = None,
    ) -> None:  # fmt: skip
        read = counters or Counters.system()
        self._host = machine or Machine.here()
        self._machine = self._host
        if accelerator:
            here = self._host
            self._machine = Machine(here.cpu, here.cores, here.threads, "cuda", accelerator)
        self._tariffs = tariffs
        package, device = read.package, read.accelerator if accelerator else None
        self._package = None if package is None else BusyPower(package, "the processor's energy counter")
        self._device = None if device is None else BusyPower(device, "the accelerator's energy counter")
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def begin(self) -> None:
        """A step begins after time that is nobody's."""
        self._wall, self._cpu = time.monotonic(), time.process_time()
        for power in (self._package, self._device):
            if power is not None:
                power.begin(self._wall)

    def share(self, bills: Iterable[tuple[Bill, float]]) -> None:
        """A step has ended: bills grow by their weights' shares of it. The next step may follow at once."""
        bills = list(bills)
        wall, cpu = time.monotonic(), time.process_time()
        whole = sum(weight for _, weight in bills)
        for bill, weight in bills if whole > 0 else ():
            bill.wall_seconds += weight / whole * (wall - self._wall)
            bill.cpu_seconds += weight / whole * (cpu - self._cpu)
        self._wall, self._cpu = wall, cpu
        for power in (self._package, self._device):
            if power is not None:
                power.go_on(wall)

    def energy(self, bill: Bill) -> Quantity:
        """Joules of a bill: seconds times counted watts where there are counters, else modelled from the cores' work."""
        seconds = Quantity.exact(bill.wall_seconds, "s", "measured")
        host = self._tariffs.core_energy(self._host, bill.cpu_seconds, bill.wall_seconds)
        if self._package is not None and (watts := self._package.watts()).known:
            host = watts.times(seconds, "J", watts.source)
        if self._machine.device == "cpu":
            return host
        if self._device is None:
            return Quantity.unknown("J", "the accelerator's energy cannot be read")
        watts = self._device.watts()
        return total([host, watts.times(seconds, "J", watts.source)], "J")

    def money(self, bill: Bill) -> Quantity:
        """Price of a bill's seconds, in the tariffs' currency."""
        hours = Quantity.exact(bill.wall_seconds / 3600, "h", "measured", "monotonic clock")
        price = self._tariffs.hour_price(self._machine)
        return hours.times(price, self._tariffs.currency, price.source)

    def record(self, bill: Bill, metrics: Metrics) -> None:
        """Count a bill into the metrics; unknown figures are left out."""
        energy, money = self.energy(bill), self.money(bill)
        if energy.value is not None:
            metrics.joules.add(energy.value, basis=energy.basis)
            metrics.observe_joules(energy.value, energy.basis)
        if money.value is not None:
            metrics.money.add(money.value, currency=self._tariffs.currency, basis=money.basis)

    def close(self, bill: Bill, metrics: Metrics) -> None:
        """A request has ended: count its bill, if anything was done for it."""
        if bill.wall_seconds > 0:
            self.record(bill, metrics)

    def told(self, bill: Bill) -> dict[str, Any]:
        """A bill as JSON; an unknown figure is null, with the reason in its ``source``."""
        energy, money = self.energy(bill), self.money(bill)
        return {"seconds": bill.wall_seconds, "energy": energy.model_dump(), "money": money.model_dump()}


def _joules(energy: Energy) -> float:
    return energy.counted + energy.filled
