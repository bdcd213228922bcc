"""What a predicted time rests on, and how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from arriero.cost.quantity import Basis, Quantity
from arriero.cost.time.coefficients import Coefficients
from arriero.cost.time.terms import Seconds

TierName = Literal["own run", "calibrated", "same class", "datasheet", "published"]


@dataclass(frozen=True)
class Tier:
    """Ranks from A (best) to E. ``spread``: an 80 % band is value / (1 + spread) ... value * (1 + spread)."""

    letter: str
    name: str
    spread: float
    meaning: str
    basis: Basis = "modelled"


TIERS: dict[str, Tier] = {
    "own run": Tier("A", "own run", 0.03, "a run of this configuration on this machine, in the ledger"),
    "calibrated": Tier("B", "calibrated", 0.10, "coefficients fitted on this machine's own measurements"),
    "same class": Tier("C", "same class", 0.20, "coefficients fitted on runs of the same kind of device"),
    "datasheet": Tier("D", "datasheet", 0.35, "the device's published figures and typical efficiencies"),
    "published": Tier("E", "published", 1.0, "somebody else's published hours"),
}


def banded(seconds: Seconds, coefficients: Coefficients) -> Quantity:
    """A time with its band: the tier's, or what the fit's own left-out errors ask for where that is wider.

    80 % of a normal spread lie within 1.28 standard deviations.
    """
    tier = TIERS[coefficients.tier]
    value = float(seconds)
    if value != value:
        return Quantity.unknown("s", "; ".join(coefficients.missing) or "something needed is unknown")
    spread = max(tier.spread, 1.28 * (coefficients.spread or 0.0))
    why = f"tier {tier.letter}, {tier.name}: {tier.meaning}"
    return Quantity.band(value, spread, "s", tier.basis, why)
