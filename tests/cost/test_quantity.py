"""Quantities: bands, what they rest on, and that unknown stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arriero.cost import Estimate, Quantity, total_estimate
from arriero.cost.quantity import largest, total, weakest

positive = st.floats(1e-6, 1e12)
bands = st.builds(lambda v, s: Quantity.band(v, s, "s", "modelled"), positive, st.floats(0, 3))


@given(bands, bands)
def test_bands_hold_their_value_through_products_and_sums(a: Quantity, b: Quantity) -> None:
    for found in (a.times(b, "s"), total([a, b], "s"), largest([a, b], "s"), a.scaled(3.0)):
        assert found.low <= found.value <= found.high
    assert total([a, b], "s").value == a.value + b.value


@given(bands)
def test_unknown_is_contagious(a: Quantity) -> None:
    unknown = Quantity.unknown("s", "nobody looked")
    for found in (
        a.times(unknown, "s"),
        unknown.times(a, "s"),
        total([a, unknown], "s"),
        unknown.scaled(2.0),
    ):
        assert not found.known
        assert found.value is None
    assert unknown.scaled(2.0, "h") == Quantity.unknown("h", "nobody looked")


def test_the_weakest_basis_wins() -> None:
    assert weakest("measured", "measured") == "measured"
    assert weakest("measured", "declared") == "modelled"
    assert weakest("declared", "unknown") == "unknown"
    assert weakest() == "unknown"


@pytest.mark.parametrize(
    "figures",
    [
        {"basis": "measured"},
        {"value": 1.0, "low": 2.0, "high": 3.0, "basis": "modelled"},
        {"value": 1.0, "low": 1.0, "high": 1.0, "basis": "unknown"},
    ],
)
def test_inconsistent_quantities_are_refused(figures: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Quantity(unit="s", **figures)


def test_stages_add_up_but_for_peak_memory() -> None:
    def sheet(seconds: float, memory: float) -> Estimate:
        return Estimate(
            seconds=Quantity.exact(seconds, "s", "modelled"),
            peak_memory=Quantity.exact(memory, "B", "modelled"),
        )

    found = total_estimate([sheet(2, 100), sheet(3, 50)])
    assert found.seconds.value == 5
    assert found.peak_memory.value == 100
    assert not found.energy.known
    assert total_estimate([]).seconds.value == 0
