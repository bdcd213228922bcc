"""What a budget of money buys in FLOP, on a device of the table."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost.hardware import Hardware, find
from arriero.cost.quantity import Quantity
from arriero.cost.tariff_tables import price_table
from arriero.errors import ArrieroError

UTILISATION, UTILISATION_SPREAD = 0.4, 0.5
"""Share of the peak that training reaches: the middle of published runs, whose range is 0.16 to 0.52."""


@dataclass(frozen=True)
class Budget:
    """FLOP of training, and where they come from."""

    flops: Quantity
    lines: tuple[str, ...] = ()


def of_flops(flops: float) -> Budget:
    """A budget that is told in FLOP.

    Raises:
        ArrieroError: it is not above 0.
    """
    if not 0 < flops < float("inf"):
        raise ArrieroError(f"a compute budget is a positive number of FLOP, not {flops:g}")
    return Budget(Quantity.exact(flops, "FLOP", "declared", "as given"))


def of_money(
    money: float,
    hardware: str,
    *,
    utilisation: float | None = None,
    price: float | None = None,
    dtype: str = "bf16",
) -> Budget:
    """FLOP = money / price of an hour x 3600 x peak x utilisation, with the bands of price and utilisation.

    Args:
        utilisation: share of the dense peak; by default 0.4 with a band. price: USD an hour of one device, by default the table's.

    Raises:
        ArrieroError: an unknown device, or one whose peak or price nobody knows.
    """
    if not money > 0:
        raise ArrieroError(f"a budget of money is above 0, not {money:g}")
    if utilisation is not None and not 0 < utilisation <= 1:
        raise ArrieroError(f"a utilisation is above 0 and at most 1, not {utilisation:g}")
    device = find(hardware)
    peak = device.peak(dtype)
    if peak is None:
        raise ArrieroError(
            f"nobody has told the {dtype} peak of {device.name}: give --budget-flops, or another --dtype"
        )
    hourly = _price(device, price)
    share = (
        Quantity.band(UTILISATION, UTILISATION_SPREAD, "1", "modelled", "typical of published runs")
        if utilisation is None else Quantity.exact(utilisation, "1", "declared", "as given")
    )  # fmt: skip
    assert hourly.value and hourly.low and hourly.high and share.value and share.low and share.high
    rate = money * 3600 * peak
    flops = Quantity(
        value=rate * share.value / hourly.value, low=rate * share.low / hourly.high, high=rate * share.high / hourly.low,
        unit="FLOP", basis="modelled", source="money / price x peak x utilisation",
    )  # fmt: skip
    lines = (
        f"{device.name}: {peak / 1e12:,.0f} TFLOP/s dense {dtype}",
        f"price: {hourly.value:g} USD/h ({hourly.low:g}–{hourly.high:g}), {hourly.source}",
        f"utilisation: {share.value:.0%} ({share.low:.0%}–{share.high:.0%}), {share.source}",
    )  # fmt: skip
    return Budget(flops, lines)


def _price(device: Hardware, given: float | None) -> Quantity:
    if given is not None:
        if not given > 0:
            raise ArrieroError(f"the price of an hour is above 0, not {given:g}")
        return Quantity.exact(given, "USD/h", "declared", "as given")
    table = price_table()
    found = [row for name in (device.name, *device.drivers) if (row := table.accelerator(name)) is not None]
    price = next((row for row in found if row.price is not None), None)
    if price is None or price.price is None:
        raise ArrieroError(f"no price is known for {device.name}: give --price, USD an hour of one device")
    return Quantity(
        value=price.price.value, low=price.price.low, high=price.price.high, unit="USD/h", basis="declared",
        source=f"{price.price_source} (as of {price.price_as_of})",
    )  # fmt: skip
