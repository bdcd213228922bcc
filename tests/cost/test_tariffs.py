"""Energy, CO2 and money: the arithmetic by hand, the overrides, and no figure for what nobody knows."""

from __future__ import annotations

import pytest

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.tariff_tables import development_table, grid_table, power_table, price_table, water_table
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
    tariffs = Tariffs.load({"region": "USA"})
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
        ({"price_usd_h": 2}, "did you mean 'price_per_hour'"),
        ({"co2": "yes"}, "co2 is 'yes'; it should be true or false"),
        ({"water": "much"}, "water is 'much'; it should be a number of 0 or more"),
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
        "co2": True,
        "water": True,
    }
    assert set(sample) == set(KEYS)
    plain = Tariffs.load()
    for key in KEYS:
        extra = {"price_per_hour": 1} if key == "currency" else {}
        assert Tariffs.load({key: sample[key], **extra}) != (Tariffs.load(extra) if extra else plain)


def test_every_row_has_a_source_and_a_date() -> None:
    power, grid, prices = power_table(), grid_table(), price_table()
    assert grid.default in grid.regions
    rows = [*power.processors, prices.vcpu_hour, power.pue, power.generic_core, development_table()]
    assert all(row.source and row.as_of for row in [*rows, water_table().litres_per_kwh])
    assert grid.source and all(row.as_of >= "2021" and row.g_per_kwh > 0 for row in grid.regions.values())
    assert len(grid.regions) > 200
    assert all(row.spec_source for row in prices.accelerators)
    assert all(row.price is None or (row.price_source and row.price_as_of) for row in prices.accelerators)
    assert all(
        row.price is None or row.price.low <= row.price.value <= row.price.high for row in prices.accelerators
    )
    drivers = [name for row in prices.accelerators for name in row.drivers]
    assert len(drivers) == len(set(drivers))


def test_no_co2_when_power_and_grid_are_both_assumed_unless_asked(profile: DeviceProfile) -> None:
    assert not price(HOUR, profile, Tariffs.load()).co2.known
    assert "both the power and the grid are assumed" in price(HOUR, profile, Tariffs.load()).co2.source
    for given in ({"co2": True}, {"region": "FRA"}, {"grid_g_per_kwh": 20}, {"watts": 50}):
        assert price(HOUR, profile, Tariffs.load(given)).co2.known, given
    tariffs, machine = Tariffs.load(), Machine.of(profile)
    read_off = Quantity.exact(3.6e6, "J", "measured")
    assert tariffs.priced(HOUR, machine, read_off, counted=True).co2.value == pytest.approx(1.1 * 369)
    assert not tariffs.priced(HOUR, machine, read_off).co2.known


def test_water_is_off_a_range_or_ones_own() -> None:
    kwh = Quantity.exact(3.6e6, "J", "measured")
    assert Tariffs.load().water_of(kwh) is None
    assert Tariffs.load({"water": False}).water_of(kwh) is None
    asked = Tariffs.load({"water": True, "pue": 1.0}).water_of(kwh)
    assert asked is not None and (asked.low, asked.high) == pytest.approx((0.2, 2.0)) and asked.unit == "L"
    own = Tariffs.load({"water": 1.3, "pue": 1.2}).water_of(kwh)
    assert own is not None and own.value == own.high == pytest.approx(1.56)
    unknown = Tariffs.load({"water": 1.3}).water_of(Quantity.unknown("J", "no counter"))
    assert unknown is not None and unknown.source == "no counter"


def test_several_accelerators_draw_and_cost_several_times() -> None:
    tariffs = Tariffs.load()
    one = Machine("Test CPU", 4, 4, "cuda", "NVIDIA H200")
    eight = Machine("Test CPU", 4, 4, "cuda", "NVIDIA H200", 8)
    assert tariffs.full_power(eight).value == pytest.approx(8 * (tariffs.full_power(one).value or 0))
    assert tariffs.hour_price(eight).high == pytest.approx(8 * 3.5)


# (GPU hours, MWh, t CO2) as their papers' tables print them
@pytest.mark.parametrize(
    ("hours", "megawatt_hours", "tonnes"),
    [(82_432, 36, 14), (135_168, 59, 23), (530_432, 233, 90), (1_022_362, 449, 173)],
)
def test_the_llama_1_table_comes_out(
    profile: DeviceProfile, hours: float, megawatt_hours: float, tonnes: float
) -> None:
    tariffs = Tariffs.load({"watts": 400, "pue": 1.1, "grid_g_per_kwh": 385})
    found = price(Estimate(seconds=Quantity.exact(hours * 3600, "s", "declared")), profile, tariffs)
    with_plant = (found.energy.value or 0) * tariffs.pue.value / 3.6e9
    assert with_plant == pytest.approx(megawatt_hours, abs=0.9)  # they print whole MWh, cut off
    assert (found.co2.value or 0) / 1e6 == pytest.approx(tonnes, abs=0.6)


@pytest.mark.parametrize(
    ("hours", "tonnes"), [(184_320, 31.22), (368_640, 62.44), (1_038_336, 153.90), (1_720_320, 291.42)]
)
def test_the_llama_2_table_comes_out(profile: DeviceProfile, hours: float, tonnes: float) -> None:
    watts = 350 if hours == 1_038_336 else 400  # the 34B model's row says 350 W
    tariffs = Tariffs.load({"watts": watts, "pue": 1.1, "grid_g_per_kwh": 385})
    found = price(Estimate(seconds=Quantity.exact(hours * 3600, "s", "declared")), profile, tariffs)
    assert (found.co2.value or 0) / 1e6 == pytest.approx(tonnes, rel=0.01)
