"""What an answer may be wrong by, widest first, and the one thing to do about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.quantity import Quantity
from arriero.cost.search.choose import Objective
from arriero.cost.search.columns import MODES
from arriero.cost.search.evaluate import Offer
from arriero.cost.tariff_tables import development_table
from arriero.cost.time import TIERS, step_terms
from arriero.cost.units import format_seconds, round_text
from arriero.planning.estimate.figures import percent
from arriero.planning.goal.offers import loss_to_failures
from arriero.planning.goal.words import Wording, money

_CALIBRATION_SECONDS = 90.0
_MATTERS: dict[Objective, tuple[str, ...]] = {
    "cheapest": ("price", "time", "restarts"), "fastest": ("time", "restarts", "price"),
    "greenest": ("power", "time", "restarts"),
}  # fmt: skip
"""What moves the figure that decides; the first ones are asked about first."""


@dataclass(frozen=True)
class Doubt:
    """Something the answer rests on. ``low``, ``high``: factors of its middle; ``text``: with its reason."""

    name: str
    low: float
    high: float
    text: str

    @property
    def width(self) -> float:
        return self.high / self.low


def doubts(words: Wording, best: int) -> list[Doubt]:
    """What moves the deciding figure, widest first."""
    offer = words.offer(best)
    found = [_time(words, best), _restarts(offer, int(words.search.plans.devices[best]))]
    for name, quantity, unit in (("price", offer.price, offer.price.unit), ("power", offer.watts, "W")):
        found += [_priced(name, quantity, unit)] if quantity.known else []
    wanted = _MATTERS[words.search.objective]
    return sorted((doubt for doubt in found if doubt.name in wanted), key=lambda doubt: -doubt.width)


def _priced(name: str, quantity: Quantity, unit: str) -> Doubt:
    assert quantity.value and quantity.low is not None and quantity.high is not None
    low, high = quantity.low / quantity.value, quantity.high / quantity.value
    if low == high:
        return Doubt(name, low, high, f"{round_text(quantity.value)} {unit}, {quantity.source}")
    span = f"{round_text(quantity.low)} to {round_text(quantity.high)} {unit}"
    return Doubt(name, low, high, f"{_signed(low, high)}: {span}; {quantity.source}")


def _time(words: Wording, best: int) -> Doubt:
    offer, dtype = words.offer(best), words.variant(best).dtype
    low, high = offer.band[dtype]
    tier = TIERS[offer.coefficients[dtype].tier]
    return Doubt(
        "time",
        low,
        high,
        f"{_signed(low, high)}: tier {tier.letter}, {tier.meaning}; {_largest_terms(words, best)}",
    )


def _largest_terms(words: Wording, best: int) -> str:
    """`a step of 2.1 s is products 61 %, elementwise 20 %`."""
    plan, offer, variant = words.search.plans.take(np.array([best])), words.offer(best), words.variant(best)
    terms = step_terms(
        variant.workload, plan.cut, micro_batch=plan.micro_batch, accumulation=plan.accumulation,
        recompute=MODES[int(plan.recompute[0])], coefficients=offer.coefficients[variant.dtype], devices_per_node=offer.node,
    )  # fmt: skip
    named = {name: float(np.sum(value)) for name, value in terms.named().items()}
    whole = sum(named.values())
    largest = sorted(named, key=lambda name: -named[name])[:2]
    return f"a step of {format_seconds(whole, 2)} is " + ", ".join(
        f"{name} {percent(named[name] / whole)}" for name in largest
    )


def _restarts(offer: Offer, devices: int) -> Doubt:
    lost = loss_to_failures(offer, devices)
    if lost is None:
        return Doubt(
            "restarts", 1.0, 1.0, f"no failure rate is published for {offer.hardware.name}; none are counted"
        )
    return Doubt(
        "restarts", 1.0 - lost, 1.0 + lost, f"{_little(lost)} of the time is expected to go to failures"
    )


def _little(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else percent(share)


def _signed(low: float, high: float) -> str:
    return f"{100 * (low - 1):+.0f} % to {100 * (high - 1):+.0f} %"


def next_action(words: Wording, best: int, found: list[Doubt]) -> str:
    """The one thing that would narrow the widest doubt."""
    offer = words.offer(best)
    name = offer.hardware.name
    widest = found[0].name if found else "time"
    if widest == "price":
        return (
            f"ask for a price and give it: --price {name}=N; the money's band is then that of the time alone"
        )
    if widest == "power":
        return (
            f"measure what one {name} draws while it trains; the energy's band is then that of the time alone"
        )
    usual = TIERS["calibrated"].spread
    price = (
        ""
        if offer.price.value is None
        else f", {money(offer.price.value * _CALIBRATION_SECONDS / 3600, words.currency)}"
    )
    return (
        f"run `arriero calibrate` on one {name} ({_CALIBRATION_SECONDS:.0f} s{price}), and give this command there: "
        f"the time's band becomes ±{100 * usual:.0f} %"
    )


def left_out(words: Wording, best: int | None) -> list[str]:
    """What the figures do not hold."""
    table = development_table()
    lines = [
        f"trials and failed runs: a whole project takes {table.low:g} to {table.high:g} times the final run"
    ]
    if (
        best is not None
        and loss_to_failures(words.offer(best), int(words.search.plans.devices[best])) is None
    ):
        lines.append("failures and restarts")
    return [*lines, "host, network, storage, data preparation, evaluation"]
