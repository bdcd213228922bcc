"""The cluster's settings and its published figures."""

from __future__ import annotations

import math

import pytest

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_table import reliability_table
from arriero.errors import ArrieroError


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"device": 8}, "unknown setting 'device'; did you mean 'devices'?"),
        ({"gpu": "h10"}, "did you mean 'h100'?"),
        ({"gpu": "NVIDIA H200"}, "or give failures_per_device_hour"),
        ({"devices": True}, "'devices': should be a number, not true"),
        ({"devices": 0}, "greater than or equal to 1, not 0"),
        ({"devices": 1.5}, "'devices'"),
        ({"days": float("nan")}, "finite number"),
        ({"days": float("inf")}, "'days'"),
        ({"interval": "5 lightyears"}, "'interval'"),
        ({"interval": "--"}, "'interval'"),
        ({"interval": 10, "asynchronous": 60}, "give 55 s or more"),
        ({"restart": 60, "load": 5, "warm_up": 5}, "give restart or its parts (load, warm_up), not both"),
        ({"slow_factor": 1.3}, "give slow_share"),
        ({"planned_per_day": 24, "planned_stop": "1 h"}, "planned stops take"),
        ({"devices": 10_000_000, "days": 3000}, "too many to draw"),
        ({"target": 1}, "less than 1"),
        ({"trials": 1}, "'trials'"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(settings: dict, told: str) -> None:
    with pytest.raises(ArrieroError) as raised:
        Cluster.of(settings)
    assert told in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), ("90", 90), ("5 min", 300), ("1.5h", 5400), ("2 d", 172800), ("1e3 s", 1000)],
)
def test_durations_are_seconds_or_text_with_a_unit(text: object, seconds: float) -> None:
    assert Cluster.of({"interval": text}).interval == seconds


def test_a_rate_as_yaml_reads_it_from_the_command_line_is_a_number() -> None:
    assert Cluster.of({"failures_per_device_hour": "1e-5"}).device_rate == 1e-5


def test_llama_3_is_the_default() -> None:
    cluster = Cluster.of()
    assert cluster.expected_failures == pytest.approx(419)
    assert cluster.planned_stops == 47
    # "approximately 78 % of the unexpected interruptions are attributed to confirmed hardware issues"
    hardware = sum(cluster.kinds[kind] for kind in ("gpu", "network", "host"))
    assert hardware == pytest.approx(0.78, abs=0.02)
    assert sum(cluster.kinds.values()) == pytest.approx(1)


@pytest.mark.parametrize(("devices", "hours"), [(16384, 1.8), (131072, 0.23)])
def test_the_rate_of_rsc_1_gives_the_published_time_between_failures(devices: int, hours: float) -> None:
    """Kokolis et al. (arXiv 2410.21680) project these from the same rate."""
    cluster = Cluster.of({"devices": devices, "gpu": "a100", "days": 1, "planned_per_day": 0})
    assert cluster.mtbf / 3600 == pytest.approx(hours, rel=0.03)


def test_a_device_goes_by_its_drivers_name_too_and_an_own_rate_needs_no_row() -> None:
    assert Cluster.of({"gpu": "NVIDIA H100 80GB HBM3"}).device_rate == Cluster.of().device_rate
    own = Cluster.of({"gpu": "own chip", "failures_per_device_hour": 0})
    assert own.kinds == {"all kinds": 1.0} and math.isinf(own.mtbf)


def test_the_restart_is_the_sum_of_its_parts_or_given_whole() -> None:
    parts = {"detection": 1, "reschedule": 2, "load": 4, "warm_up": 8}
    assert Cluster.of(parts).restart_seconds == 15
    assert Cluster.of({"restart": "3 min"}).restart_seconds == 180


def test_every_figure_of_the_table_is_dated_sourced_and_a_setting() -> None:
    table = reliability_table()
    rows = [*table.fleets.values(), *table.defaults.values()]
    assert all(row.source and row.as_of and row.basis in ("declared", "modelled") for row in rows)
    assert set(table.defaults) <= set(Cluster.model_fields)
    drivers = [driver for row in table.fleets.values() for driver in row.drivers]
    assert len(drivers) == len(set(drivers))
