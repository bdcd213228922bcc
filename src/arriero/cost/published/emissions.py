"""Energy and CO2 as published cards work them out: not measured, but hours times rated power."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.quantity import Quantity
from arriero.errors import ArrieroError, did_you_mean


@dataclass(frozen=True)
class Method:
    """A recipe: device-hours x rated watts x facility factor x grams of CO2 a kWh."""

    pue: float
    kg_per_kwh: float
    source: str


METHODS: dict[str, Method] = {
    "meta": Method(
        1.1, 0.385, "Touvron et al. 2023 (arXiv 2302.13971), section 6: TDP x 1.1, US average 0.385 kg/kWh"
    ),
}


def energy_mwh(hours: Quantity, watts: Quantity, method: str = "meta") -> Quantity:
    """Energy of ``hours`` device-hours of devices rated at ``watts``, in MWh; unknown where either is.

    Raises:
        ArrieroError: there is no such method.
    """
    recipe = _method(method)
    drawn = hours.times(watts, "Wh")
    return drawn.scaled(recipe.pue * 1e-6, "MWh", f"recipe '{method}': {recipe.source}")


def co2_tonnes(hours: Quantity, watts: Quantity, method: str = "meta") -> Quantity:
    """CO2 of the same, in tonnes: a MWh at x kg/kWh is x tonnes.

    Raises:
        ArrieroError: there is no such method.
    """
    return energy_mwh(hours, watts, method).scaled(_method(method).kg_per_kwh, "t")


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ArrieroError(f"no recipe '{name}' for energy{did_you_mean(name, METHODS)}")
    return METHODS[name]
