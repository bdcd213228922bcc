"""Closed forms: published figures, monotone, and the optimum is one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_formula import (
    best_interval,
    daly_interval,
    effective_share,
    exact_interval,
    least_interval,
    young_interval,
)  # fmt: skip

RATES = st.floats(1e-8, 1e-3)
DURATIONS = st.floats(0, 3600)


@pytest.mark.parametrize(("mtbf", "minutes"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_daly_gives_the_figures_of_his_paper(mtbf: float, minutes: float) -> None:
    """Daly 2006, figures 3 to 5: 5 min to write a restart dump."""
    assert daly_interval(5, mtbf) == pytest.approx(minutes, abs=0.5 if minutes > 10 else 0.05)


def test_young_is_the_square_root_and_daly_stops_at_the_time_between_failures() -> None:
    assert young_interval(5, 1440) == pytest.approx(120)
    assert daly_interval(10, 5) == 5
    assert math.isinf(daly_interval(5, math.inf))


@given(st.floats(0.1, 1000), st.floats(1e3, 1e8))
def test_daly_is_near_the_exact_optimum_where_it_holds(blocking: float, mtbf: float) -> None:
    if blocking < mtbf / 10:
        assert daly_interval(blocking, mtbf) == pytest.approx(exact_interval(blocking, mtbf), rel=0.01)


@given(RATES, st.floats(0.01, 900), DURATIONS, DURATIONS, st.floats(0.1, 10))
def test_no_interval_is_better_than_the_best(
    rate: float, blocking: float, asynchronous: float, restart: float, factor: float
) -> None:
    cluster = Cluster.of({
        "devices": 64, "days": 100, "failures_per_device_hour": rate, "blocking": blocking, "trials": 2,
        "asynchronous": asynchronous, "restart": restart, "planned_per_day": 0,
    })  # fmt: skip
    best = best_interval(cluster)
    other = min(max(best * factor, least_interval(cluster)), cluster.horizon)
    assert effective_share(cluster, best) >= effective_share(cluster, other) - 1e-12


@given(RATES, st.floats(1, 50), st.floats(60, 36000), DURATIONS, DURATIONS, DURATIONS)
def test_more_failures_longer_pauses_writes_and_restarts_never_help(
    rate: float, times: float, interval: float, blocking: float, asynchronous: float, restart: float
) -> None:
    settings = {
        "failures_per_device_hour": rate,
        "blocking": blocking,
        "asynchronous": asynchronous,
        "restart": restart,
    }
    common = {"devices": 100, "days": 10, "trials": 2, "planned_per_day": 0}

    def share(**changed: float) -> float:
        return effective_share(Cluster.of({**common, **settings, **changed}), interval)

    before = share()
    assert 0 <= before <= 1
    for name in ("blocking", "asynchronous", "restart"):
        assert share(**{name: settings[name] * times}) <= before + 1e-12
    assert share(failures_per_device_hour=min(rate * times, 1e-2)) <= before + 1e-12


def test_it_is_dalys_model_where_nothing_is_written_behind() -> None:
    cluster = Cluster.of({"asynchronous": 0, "planned_per_day": 0})
    interval, delta, restart, mtbf = 400.0, 5.0, 600.0, cluster.mtbf
    wall = mtbf * math.exp(restart / mtbf) * (math.exp((interval + delta) / mtbf) - 1) / interval
    assert effective_share(cluster, interval) == pytest.approx(1 / wall, rel=1e-12)


def test_without_failures_only_the_checkpoints_cost() -> None:
    cluster = Cluster.of({"failures_per_device_hour": 0, "planned_per_day": 0})
    assert effective_share(cluster, 95.0) == pytest.approx(0.95)
    assert best_interval(cluster) == cluster.horizon


def test_hopeless_clusters_do_not_overflow() -> None:
    cluster = Cluster.of({"devices": 10_000, "failures_per_device_hour": 0.01, "days": 0.1, "restart": "2 d"})
    assert effective_share(cluster, 86400 * 30) == 0.0
