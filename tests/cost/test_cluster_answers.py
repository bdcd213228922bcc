"""What reaches a target, stragglers, the report, and what a plan asks."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost import Quantity
from arriero.cost.cluster import Cluster
from arriero.cost.cluster_answers import answers, longest_restart
from arriero.cost.cluster_formula import effective_share
from arriero.cost.cluster_plan import effective_time, wall_time
from arriero.cost.cluster_report import cluster_report
from arriero.cost.cluster_simulate import Band, simulate
from arriero.cost.cluster_stragglers import expected_slowdown
from arriero.errors import ArrieroError


@given(st.floats(0.5, 0.99), st.floats(0, 1200), st.integers(1000, 30000))
def test_the_borders_of_the_answers_are_where_the_target_is_met(
    target: float, restart: float, devices: int
) -> None:
    cluster = Cluster.of({"target": target, "restart": restart, "devices": devices})
    found = answers(cluster)
    for window in found.frontier:
        if window.shortest is None or window.longest is None:
            assert window.best_share < target
            continue
        assert effective_share(cluster, window.shortest, window.restart) >= target - 1e-9
        assert effective_share(cluster, window.longest, window.restart) == pytest.approx(target, abs=1e-6)
        assert effective_share(cluster, window.longest * 1.01, window.restart) < target
    if found.restart_at_best is not None:
        assert found.restart_at_best >= (found.restart_at_chosen or 0) - 1e-9


def test_the_restart_that_is_answered_reaches_the_target_in_the_simulation() -> None:
    cluster = Cluster.of({"target": 0.95})
    report = cluster_report(cluster)
    assert report.answers.window.shortest is None  # ten minutes of restart are too much for 95 %
    assert report.answers.restart_at_best is not None and 60 < report.answers.restart_at_best < 300
    assert report.at_answer is not None
    assert report.at_answer.mean == pytest.approx(0.95, abs=0.002)


def test_an_interval_that_is_too_long_has_no_restart() -> None:
    cluster = Cluster.of({"target": 0.95})
    assert longest_restart(cluster, 7200) is None
    assert longest_restart(Cluster.of({"failures_per_device_hour": 0}), 7200) == math.inf


@pytest.mark.parametrize(
    ("devices", "jitter", "share", "factor"), [(8, 0.1, 0, 1), (300, 0.03, 0.01, 1.2), (40, 0.2, 0.5, 2)]
)
def test_the_slowdown_is_the_mean_of_the_slowest(
    devices: int, jitter: float, share: float, factor: float
) -> None:
    generator = np.random.default_rng(3)
    times = generator.lognormal(-jitter * jitter / 2, jitter, (4000, devices))
    times *= np.where(generator.random(times.shape) < share, factor, 1.0)
    slowest = times.max(axis=1)
    error = slowest.std() / math.sqrt(len(slowest))
    assert expected_slowdown(devices, jitter, share, factor) == pytest.approx(slowest.mean(), abs=4 * error)


@given(st.integers(1, 100_000), st.floats(0, 0.3), st.floats(0, 1), st.floats(1, 3))
def test_more_devices_never_make_a_step_shorter(
    devices: int, jitter: float, share: float, factor: float
) -> None:
    one = expected_slowdown(devices, jitter, share, factor)
    assert one >= 1 - 1e-6
    assert expected_slowdown(2 * devices, jitter, share, factor) >= one - 1e-4


def test_slow_hosts_without_jitter_are_exact() -> None:
    assert expected_slowdown(1, 0.3) == 1
    assert expected_slowdown(2, 0, 0.5, 3) == pytest.approx(1 + 2 * 0.75)
    assert expected_slowdown(16384, 0, 0, 3) == 1
    assert expected_slowdown(4, 0, 1, 1.5) == 1.5
    assert expected_slowdown(10, 5e-324, 0.1, 2) == expected_slowdown(10, 0, 0.1, 2)


def test_goodput_is_the_effective_time_over_the_slowdown() -> None:
    report = cluster_report(Cluster.of({"jitter": 0.01, "trials": 20}))
    assert report.goodput.mean == pytest.approx(report.effective.mean / report.slowdown)
    assert report.slowdown > 1.03


@pytest.mark.parametrize(
    "settings",
    [
        {"failures_per_device_hour": 0},
        {"failures_per_device_hour": 0, "planned_per_day": 0, "days": 0.0001},
        {"blocking": 0, "asynchronous": 0},
        {"devices": 1, "days": 0.001},
        {"devices": 10_000, "failures_per_device_hour": 0.01, "days": 1, "restart": "2 d"},
        {"interval": "3 d", "target": 0.01},
    ],
)
def test_a_report_of_any_cluster_is_plain_data(settings: dict) -> None:
    report = cluster_report(Cluster.of({"trials": 10, **settings}))
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert 0 <= data["effective"]["mean"] <= 1
    assert len(data["curve"]) >= 10
    assert {item["basis"] for item in data["assumptions"]} <= {"declared", "modelled", "unknown"}


def test_what_was_given_is_told_apart_from_what_was_assumed() -> None:
    told = {
        item.name: item
        for item in cluster_report(Cluster.of({"blocking": 7, "restart": 60, "trials": 2})).assumptions
    }
    assert told["blocking"].source == "given" and told["restart"].source == "given"
    assert told["asynchronous"].basis == "modelled" and "detection" not in told
    assert "2407.21783" in told["failures"].source


def test_a_plan_gets_a_quantity_or_knows_that_nobody_knows() -> None:
    share = effective_time(16384, 54 * 86400, gpu="NVIDIA H100 80GB HBM3")
    assert share.unit == "1" and share.basis == "modelled" and share.low < share.value < share.high
    assert 0.90 < share.value < 0.93 and "2407.21783" in share.source
    wall = wall_time(Quantity.exact(1000.0, "s", "modelled"), share)
    assert wall.value == pytest.approx(1000 / share.value) and wall.low == pytest.approx(1000 / share.high)
    unknown = effective_time(8, 3600, gpu="NVIDIA H200")
    assert not unknown.known and "NVIDIA H200" in unknown.source
    assert not wall_time(Quantity.exact(1.0, "s", "modelled"), unknown).known
    own = effective_time(
        8, 86400, gpu="NVIDIA H200", failures_per_device_hour=1e-3, interval="5 min", restart=60
    )
    assert own.known and own.low <= own.value <= own.high < 1
    with pytest.raises(ArrieroError, match="did you mean 'interval'"):
        effective_time(8, 3600, gpu="h100", intervall=60)


def test_a_band_is_the_middle_80_percent() -> None:
    found = Band.of(np.arange(101))
    assert (found.mean, found.low, found.high) == (50, 10, 90)
    assert simulate(Cluster.of({"trials": 3}), [100, 200]).effective.shape == (2, 3)
