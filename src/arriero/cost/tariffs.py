"""Energy, CO2 and money from seconds: what a machine draws, what the grid emits, what an hour costs.

Energy is what the machine itself draws. CO2 is that, times the facility's overhead (PUE), times the grid's intensity.
Every figure comes from a dated table or from the user's overrides; a device that no table lists is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arriero.artifacts.host import cpu_name, usable_cores
from arriero.cost.device import DeviceProfile
from arriero.cost.estimate import Estimate
from arriero.cost.ledger_corrections import Corrections
from arriero.cost.quantity import Quantity, total
from arriero.cost.tariff_tables import (
    Figure,
    PowerTable,
    PriceTable,
    grid_table,
    power_table,
    price_table,
    water_table,
)
from arriero.errors import ArrieroError, did_you_mean

KEYS = {
    "region": "country by its ISO code (three letters), for the carbon intensity of its grid",
    "grid_g_per_kwh": "grams of CO2 per kWh of your supply, in place of a region's",
    "pue": "facility energy over machine energy, 1.0 or more",
    "watts": "what your machine draws while it works, in place of the modelled power",
    "price_per_hour": "what an hour of your machine costs, in place of the catalogue price",
    "currency": "currency of price_per_hour, by default USD",
    "co2": "true shows CO2 even where both the power and the grid's intensity are assumed",
    "water": "true shows a range of litres, a number takes your site's own litres per kWh; off by default",
}
"""The overrides that a recipe's ``cost:`` section may hold. One line each, also as ``--set cost.pue=1.2``."""
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Machine:
    """What of a machine decides on its power and price."""

    cpu: str
    cores: int
    threads: int
    device: str = "cpu"
    accelerator: str | None = None
    accelerators: int = 1
    """How many of that accelerator; on a machine without any it says nothing."""

    @classmethod
    def of(cls, profile: DeviceProfile) -> Machine:
        return cls(profile.cpu, profile.cores, profile.threads, profile.device, profile.accelerator)

    @classmethod
    def here(cls, threads: int | None = None) -> Machine:
        """The machine this process runs on, without its accelerators."""
        return cls(cpu_name(), usable_cores(), threads or usable_cores())


@dataclass(frozen=True)
class Tariffs:
    """The figures in force: tables, with the user's overrides on top."""

    region: str | None
    grid: Figure
    pue: Figure
    currency: str
    watts: Figure | None
    price_per_hour: Figure | None
    power: PowerTable
    prices: PriceTable
    grid_given: bool = False
    """The user named the region or the intensity; otherwise it is the table's default, an assumption."""
    co2_asked: bool = False
    water: Figure | None = None
    """Litres per kWh of facility energy; None leaves water out."""

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> Tariffs:
        """The tables with ``overrides`` (see :data:`KEYS`).

        Raises:
            ArrieroError: an unknown key or region, or a value that makes no sense.
        """
        given = dict(overrides or {})
        for key in given:
            if key not in KEYS:
                raise ArrieroError(f"cost: unknown key '{key}'{did_you_mean(str(key), KEYS)}")
        grid_rows, power, prices = grid_table(), power_table(), price_table()
        region = _region(given.get("region", grid_rows.default))
        own_grid = _own(given, "grid_g_per_kwh", "g/kWh", at_least=0.0)
        if own_grid is not None and "region" in given:
            raise ArrieroError("cost: give region or grid_g_per_kwh, not both")
        currency = str(given.get("currency", prices.currency))
        price = _own(given, "price_per_hour", f"{currency}/h", at_least=0.0)
        if currency != prices.currency and price is None:
            raise ArrieroError(
                f"cost: currency '{currency}' needs price_per_hour in {currency}; the catalogue is in {prices.currency}"
            )
        return cls(
            region=None if own_grid else region, grid=own_grid or grid_rows.figure(region),
            pue=_own(given, "pue", "1", at_least=1.0) or power.pue, currency=currency,
            watts=_own(given, "watts", "W", at_least=0.0), price_per_hour=price, power=power, prices=prices,
            grid_given=own_grid is not None or "region" in given, co2_asked=_flag(given, "co2"), water=_water(given),
        )  # fmt: skip

    def describe(self, device: DeviceProfile | None = None) -> list[str]:
        """What energy, CO2 and money rest on, with dates, a line each."""
        machine = Machine.of(device) if device is not None else Machine.here()
        price, watts = self.hour_price(machine), self.full_power(machine)
        return [
            f"power: {_text(watts)}",
            f"grid: {_text(self.grid.quantity())}",
            f"facility overhead (PUE): {_text(self.pue.quantity())}",
            f"price: {_text(price)}",
            *([f"water: {_text(self.water.quantity())}"] if self.water is not None else []),
        ]

    def full_power(self, machine: Machine) -> Quantity:
        """Watts of the machine with every thread in use busy."""
        if self.watts is not None:
            return self.watts.quantity()
        if machine.device != "cpu":
            return self.accelerator_power(machine)
        core = self.power.core(machine.cpu).quantity()
        busy, idle = machine.threads, max(0, machine.cores - machine.threads)
        equivalents = busy + idle * self.power.idle_share.value
        watts = core.scaled(equivalents, "W", f"{equivalents:g} busy cores; {core.source}")
        return watts.model_copy(update={"basis": "modelled"})

    def working_power(self, machine: Machine) -> Quantity:
        """Watts while a stage runs, before it is known how busy it keeps the cores: from one busy core up to all."""
        full = self.full_power(machine)
        if self.watts is not None or machine.device != "cpu" or not full.known:
            return full
        core = self.power.core(machine.cpu)
        idle = self.power.idle_share.value
        one = core.low * (1 + idle * (machine.cores - 1))
        assert full.low is not None
        return full.model_copy(update={"low": min(full.low, one), "basis": "modelled"})

    def accelerator_power(self, machine: Machine) -> Quantity:
        """Watts of the machine's accelerators while they train, the host left out; unknown for what no table lists."""
        name = machine.accelerator
        row = self.prices.accelerator(name) if name else None
        if row is None or row.tdp_w is None:
            return Quantity.unknown("W", f"no power is known for {_device_name(machine)}")
        rated = machine.accelerators * row.tdp_w
        return self.power.accelerator_load.quantity().times(
            Quantity.exact(rated, "W", "modelled"), "W", f"{row.name}: share of {rated:g} W; host left out"
        )

    def hour_price(self, machine: Machine) -> Quantity:
        """Money an hour of the machine."""
        unit = f"{self.currency}/h"
        if self.price_per_hour is not None:
            return self.price_per_hour.quantity()
        if machine.device != "cpu":
            name = machine.accelerator
            row = self.prices.accelerator(name) if name else None
            if row is None or row.price is None:
                return Quantity.unknown(unit, f"no price is known for {_device_name(machine)}")
            source, count = f"{row.name}: {row.price_source} (as of {row.price_as_of})", machine.accelerators
            return Quantity(
                value=count * row.price.value, low=count * row.price.low, high=count * row.price.high,
                unit=unit, basis=self.prices.basis, source=source if count == 1 else f"{count} x {source}",
            )  # fmt: skip
        row_cpu, cores = self.prices.vcpu_hour, machine.cores
        return Quantity(
            value=cores * row_cpu.value, low=cores * row_cpu.low, high=cores * row_cpu.high, unit=unit,
            basis=self.prices.basis, source=f"{cores} vCPU: {row_cpu.source} (as of {row_cpu.as_of})",
        )  # fmt: skip

    def memory_energy(self, peak_memory: Quantity, seconds: Quantity) -> Quantity:
        """Joules that the memory in use draws; the resident peak stands for the whole time."""
        per_gb = self.power.memory_per_gb.quantity()
        return per_gb.times(peak_memory.scaled(1e-9, "GB"), "W").times(seconds, "J", "memory in use")

    def core_energy(self, machine: Machine, cpu_seconds: float, wall_seconds: float) -> Quantity:
        """Joules of the cores from the CPU seconds that were really used, idle share of the rest of the time."""
        if self.watts is not None:
            watts = self.watts.quantity()
            return watts.times(Quantity.exact(wall_seconds, "s", watts.basis), "J", watts.source)
        core = self.power.core(machine.cpu).quantity()
        share = self.power.idle_share.value
        idle_seconds = max(0.0, machine.cores * wall_seconds - cpu_seconds)
        energy = core.scaled(cpu_seconds + share * idle_seconds, "J")
        return energy.model_copy(
            update={"basis": "modelled", "source": f"CPU seconds times watts; {core.source}"}
        )

    def priced(
        self, estimate: Estimate, machine: Machine, energy: Quantity, *, counted: bool = False
    ) -> Estimate:
        """The estimate with energy, CO2 and money filled in; ``counted``: counters showed most of the energy.

        CO2 of a power that no counter showed on a grid that nobody named would be a guess times a guess: it stays
        unknown unless it is asked for.
        """
        hours = estimate.seconds.scaled(1 / 3600, "h")
        price = self.hour_price(machine)
        return estimate.model_copy(
            update={
                "energy": energy,
                "co2": self._co2(energy, counted),
                "money": hours.times(price, self.currency, _where(price, price.source)),
            }
        )

    def _co2(self, energy: Quantity, counted: bool) -> Quantity:
        if not (self.grid_given or self.co2_asked or self.watts is not None or counted):
            return Quantity.unknown(
                "g", "both the power and the grid are assumed; name the region, or ask with co2: true"
            )
        per_joule = self.grid.quantity().scaled(1 / _JOULES_PER_KWH, "g/J")
        facility = energy.times(self.pue.quantity(), "J")
        return facility.times(per_joule, "g", _where(energy, f"grid {self.grid.value:g} g/kWh"))

    def water_of(self, energy: Quantity) -> Quantity | None:
        """Litres for so many joules of the machine; None when nobody asked for water."""
        if self.water is None:
            return None
        kwh = energy.times(self.pue.quantity(), "J").scaled(1 / _JOULES_PER_KWH, "kWh")
        return kwh.times(self.water.quantity(), "L", _where(energy, self.water.source))


def price(
    estimate: Estimate, device: DeviceProfile, tariffs: Tariffs, kind: str = "", own: Corrections | None = None
) -> Estimate:  # fmt: skip
    """Fill in energy (J), CO2 (g) and money of a stage's estimate.

    A device that the tables do not list, or seconds that are unknown, leave them unknown.

    Args:
        kind: of the stage. own: what this machine's runs of each kind say of the predictions; seconds, memory and
            power are corrected by it.
    """
    own = own or Corrections()
    estimate = own.applied(kind, estimate)
    machine = Machine.of(device)
    watts = tariffs.working_power(machine)
    energy = watts.times(estimate.seconds, "J", _where(watts, watts.source))
    if tariffs.watts is None and machine.device == "cpu" and estimate.peak_memory.known:
        source = energy.source
        energy = total([energy, tariffs.memory_energy(estimate.peak_memory, estimate.seconds)], "J")
        energy = energy.model_copy(update={"source": f"{source}; memory in use"})
    power = own.of(kind, "power")
    energy = power.applied(energy) if power is not None else energy
    return tariffs.priced(estimate, machine, energy)


def _where(part: Quantity, source: str) -> str:
    """The source of a product: of the unknown part when it is unknown."""
    return source if part.known else part.source


def _device_name(machine: Machine) -> str:
    return f"'{machine.accelerator}'" if machine.accelerator else f"a device of type '{machine.device}'"


def _region(region: Any) -> str:
    regions = grid_table().regions
    code = str(region).upper()
    if code in regions:
        return code
    by_name = {row.name.lower(): code for code, row in regions.items()}
    if str(region).lower() in by_name:
        return by_name[str(region).lower()]
    known = [*regions, *(row.name for row in regions.values())]
    hint = did_you_mean(str(region), known) or f"; known: {', '.join(regions)}"
    raise ArrieroError(f"cost: no grid figure for region '{region}'{hint}, or give grid_g_per_kwh")


def _own(given: Mapping[str, Any], key: str, unit: str, *, at_least: float) -> Figure | None:
    """The user's own figure: exact, declared."""
    if key not in given:
        return None
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not at_least <= value < float("inf"):
        raise ArrieroError(f"cost: {key} is {value!r}; it should be a number of {at_least:g} or more")
    return Figure.model_construct(
        value=float(value), low=float(value), high=float(value), unit=unit, basis="declared",
        as_of="this recipe", source="given in the recipe",
    )  # fmt: skip


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise ArrieroError(f"cost: {key} is {value!r}; it should be true or false")
    return value


def _water(given: Mapping[str, Any]) -> Figure | None:
    """The published range for ``water: true``, the user's own figure for a number."""
    value = given.get("water", False)
    if isinstance(value, bool):
        return water_table().litres_per_kwh if value else None
    return _own(given, "water", "L/kWh", at_least=0.0)


def _text(quantity: Quantity) -> str:
    """`8.9 W (5.9 to 13.3), declared: source`."""
    if quantity.value is None or quantity.low is None or quantity.high is None:
        return f"unknown: {quantity.source}"
    unit = "" if quantity.unit == "1" else f" {quantity.unit}"
    band = "" if quantity.low == quantity.high else f" ({quantity.low:.3g} to {quantity.high:.3g})"
    return f"{quantity.value:.3g}{unit}{band}, {quantity.basis}: {quantity.source}"
