"""Energy, CO2 and money: the arithmetic by hand, the overrides, and no figure for what nobody knows."""

from __future__ import annotations

import pytest

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.tariff_tables import grid_table, power_table, price_table
from arriero.cost.tariffs import KEYS, Machine, Tariffs, price
from arriero.errors import ArrieroError

HOUR = Estimate(seconds=Quantity.exact(3600.0, "s", "modelled"))


def test_own_figures_give_exact_energy_co2_and_money(profile: DeviceProfile) -> None:
    tariffs = Tariffs.load(
        {"watts": 50, "grid_g_per_kwh": 200, "pue": 1.2, "price_per_hour": 0.5, "currency": "EUR"}
    )  # fmt: skip
    found = price(HOUR, profile, tariffs)
    assert found.energy.value == 50 * 3600
    assert found.co2.value == pytest.approx(0.05 * 1.2 * 200)
    assert found.money.value == pytest.approx(0.5)
    assert found.money.unit == "EUR"
    assert found.co2.low == pytest.approx(found.co2.high)
    assert {found.energy.basis, found.co2.basis, found.money.basis} == {"modelled"}


def test_tables_give_bands_with_dates(profile: DeviceProfile) -> None:
    tariffs = Tariffs.load()
    found = price(HOUR, profile, tariffs)
    assert found.energy.value == pytest.approx(4 * 4.0 * 3600)
    assert found.energy.low < found.energy.value / 1.5 + 1
    assert found.energy.high == pytest.approx(4 * 4.0 * 1.5 * 3600)
    assert found.co2.value == pytest.approx(found.energy.value / 3.6e6 * 1.1 * 369)
    assert found.money.value == pytest.approx(4 * 0.007)
    lines = tariffs.describe(profile)
    assert any("369" in line and "2023" in line for line in lines)
    assert any("2026-11-21" in line for line in lines)


def test_memory_in_use_draws_power_too(profile: DeviceProfile) -> None:
    without = price(HOUR, profile, Tariffs.load())
    with_memory = price(
        HOUR.model_copy(update={"peak_memory": Quantity.exact(10e9, "B", "modelled")}),
        profile,
        Tariffs.load(),
    )
    assert with_memory.energy.value - without.energy.value == pytest.approx(10 * 0.3725 * 3600)


def test_a_listed_processor_takes_its_own_row(profile: DeviceProfile) -> None:
    known = profile.model_copy(update={"cpu": "AMD EPYC 9654 96-Core Processor"})
    assert Tariffs.load().full_power(Machine.of(known)).value == pytest.approx(4 * 360 / 192)


@pytest.mark.parametrize("accelerator", [None, "Acme H200 Ultra", "H200"])
def test_an_unknown_device_is_unknown_and_takes_no_others_figures(
    profile: DeviceProfile, accelerator: str | None
) -> None:
    device = profile.model_copy(update={"device": "cuda", "accelerator": accelerator})
    found = price(HOUR, device, Tariffs.load())
    assert not found.energy.known
    assert not found.co2.known
    assert not found.money.known
    assert "no power is known" in found.energy.source
    assert "no price is known" in found.money.source
    assert any(line.startswith("price: unknown") for line in Tariffs.load().describe(device))


def test_a_known_device_takes_its_row_and_one_without_a_price_has_none(profile: DeviceProfile) -> None:
    h200 = profile.model_copy(update={"device": "cuda", "accelerator": "NVIDIA H200"})
    found = price(HOUR, h200, Tariffs.load())
    assert found.energy.value == pytest.approx(0.76 * 700 * 3600)
    assert (found.money.low, found.money.value, found.money.high) == pytest.approx((2.37, 3.39, 3.5))
    assert "2025-2026" in found.money.source
    mi300 = profile.model_copy(update={"device": "cuda", "accelerator": "AMD Instinct MI300X"})
    found = price(HOUR, mi300, Tariffs.load())
    assert found.energy.known
    assert not found.money.known


def test_unknown_seconds_cost_unknown(profile: DeviceProfile) -> None:
    found = price(Estimate(), profile, Tariffs.load())
    assert not found.energy.known
    assert not found.money.known


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"regoin": "DEU"}, "unknown key 'regoin'; did you mean 'region'"),
        ({"region": "Germny"}, "did you mean 'Germany'"),
        ({"region": "Atlantis"}, "no grid figure for region 'Atlantis'"),
        ({"pue": 0.5}, "pue is 0.5; it should be a number of 1 or more"),
        ({"watts": "many"}, "watts is 'many'"),
        ({"watts": True}, "watts is True"),
        ({"price_per_hour": float("nan")}, "price_per_hour is nan"),
        ({"currency": "EUR"}, "currency 'EUR' needs price_per_hour"),
        ({"region": "DEU", "grid_g_per_kwh": 5}, "not both"),
    ],
)
def test_wrong_overrides_are_one_clear_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ArrieroError, match="cost: ") as caught:
        Tariffs.load(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_regions_by_code_and_by_name() -> None:
    assert Tariffs.load({"region": "deu"}).grid == Tariffs.load({"region": "Germany"}).grid
    assert Tariffs.load({"region": "SWE"}).grid.value == 41


def test_every_key_is_read() -> None:
    sample = {
        "region": "FRA",
        "grid_g_per_kwh": 1,
        "pue": 2,
        "watts": 3,
        "price_per_hour": 4,
        "currency": "CHF",
    }
    assert set(sample) == set(KEYS)
    plain = Tariffs.load()
    for key in KEYS:
        extra = {"price_per_hour": 1} if key == "currency" else {}
        assert Tariffs.load({key: sample[key], **extra}) != (Tariffs.load(extra) if extra else plain)


def test_every_row_has_a_source_and_a_date() -> None:
    power, grid, prices = power_table(), grid_table(), price_table()
    assert grid.default in grid.regions
    rows = [*power.processors, *grid.regions.values(), prices.vcpu_hour, power.pue, power.generic_core]
    assert all(row.source and row.as_of for row in rows)
    assert all(row.spec_source for row in prices.accelerators)
    assert all(row.price is None or (row.price_source and row.price_as_of) for row in prices.accelerators)
    assert all(
        row.price is None or row.price.low <= row.price.value <= row.price.high for row in prices.accelerators
    )
    drivers = [name for row in prices.accelerators for name in row.drivers]
    assert len(drivers) == len(set(drivers))
