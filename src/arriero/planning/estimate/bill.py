"""Money, energy, CO2 and water of so many devices for so long; what no table lists stays unknown."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Machine, Tariffs

_HOUR = 3600.0
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Bill:
    """What the time costs.

    Attributes:
        device_hours: unit "h". money: in the tariffs' currency. energy: joules of the devices alone (no host, no
            cooling). co2: grams, and water: litres, of the facility (energy times PUE); water is None unless asked for.
        price, power: of one device, an hour and while it works.
    """

    device_hours: Quantity
    money: Quantity
    energy: Quantity
    co2: Quantity
    water: Quantity | None
    price: Quantity
    power: Quantity


def bill(wall: Quantity, machine: Machine, count: int, tariffs: Tariffs) -> Bill:
    """Price ``wall`` seconds of ``count`` devices, each of them a ``machine``."""
    price, power = tariffs.hour_price(machine), tariffs.full_power(machine)
    hours = wall.scaled(count / _HOUR, "h")
    energy = power.times(wall.scaled(count), "J", _why(power, wall))
    facility = energy.times(tariffs.pue.quantity(), "J")
    per_joule = tariffs.grid.quantity().scaled(1 / _JOULES_PER_KWH, "g/J")
    return Bill(
        device_hours=hours,
        money=hours.times(price, tariffs.currency, _why(price, wall)),
        energy=energy,
        co2=facility.times(per_joule, "g", _why(energy, tariffs.grid.quantity())),
        water=tariffs.water_of(energy),
        price=price,
        power=power,
    )


def _why(*parts: Quantity) -> str:
    """The source of the first part that is unknown, otherwise of the first."""
    return next((part.source for part in parts if not part.known), parts[0].source)
