"""What a sheet may be wrong by, widest first, and the one command that would narrow it."""

from __future__ import annotations

from arriero.cost.quantity import Quantity
from arriero.cost.time.tiers import TIERS
from arriero.planning.estimate.figures import plus_minus
from arriero.planning.estimate.outcome import Outcome

_CALIBRATION_SECONDS = 90.0
_SHOWN = 4


def doubts(outcome: Outcome) -> tuple[str, ...]:
    """What is unknown, then the time, then the other parts by the width of their bands, each with what it bears on."""
    bill, case = outcome.bill, outcome.case
    parts = [
        ("training time", outcome.training, "everything"), ("price", bill.price, "money"),
        ("power", bill.power, "energy and CO2"), ("grid", case.tariffs.grid.quantity(), "CO2"),
        ("PUE", case.tariffs.pue.quantity(), "CO2"), ("memory", outcome.fit.total, "whether it fits"),
        ("failures", outcome.effective, "the wall clock"),
    ]  # fmt: skip
    known = [part for part in parts if part[1].known and _width(part[1]) > 1.01]
    known.sort(key=lambda part: (part[0] != "training time", -_width(part[1])))
    missing = [
        f"{name} is unknown: {found.source}"
        for name, found, _ in parts
        if not found.known and name != "failures"
    ]
    return (*missing, *(f"{name} {plus_minus(found)} ({what})" for name, found, what in known[:_SHOWN]))


def _width(quantity: Quantity) -> float:
    assert quantity.low is not None and quantity.high is not None
    return quantity.high / quantity.low if quantity.low > 0 else float("inf")


def sharper(outcome: Outcome) -> str:
    """The command that would narrow the widest band of the time, and what it costs."""
    case, price, training = outcome.case, outcome.bill.price, outcome.training
    here = 100 * TIERS["calibrated"].spread
    now = plus_minus(training) if training.known else "unknown"
    if case.device.hardware is None:
        best = 100 * TIERS["own run"].spread
        return f"a run of it here, in the ledger: {now} becomes ±{best:.0f} % (`arriero calibrate` on a quiet machine: ±{here:.0f} %)"
    money = (
        ""
        if price.value is None
        else f", {price.value * _CALIBRATION_SECONDS / 3600:.2f} {case.tariffs.currency}"
    )
    return f"`arriero calibrate` on one {case.device.name} ({_CALIBRATION_SECONDS:.0f} s{money}): {now} becomes ±{here:.0f} %"
