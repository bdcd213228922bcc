"""All that is said of one simulated cluster: shares, intervals, the curve, what reaches the target, and why."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_answers import Answers, answers
from arriero.cost.cluster_formula import (
    best_interval,
    chosen_interval,
    daly_interval,
    effective_share,
    least_interval,
    young_interval,
)  # fmt: skip
from arriero.cost.cluster_simulate import Band, Simulation, simulate
from arriero.cost.cluster_stragglers import expected_slowdown
from arriero.cost.cluster_table import reliability_table
from arriero.cost.quantity import Basis

_POINTS, _SPAN = 25, 10.0
_RESTART_PARTS = ("detection", "reschedule", "load", "warm_up")


@dataclass(frozen=True)
class Assumption:
    """One figure or simplification that the result rests on."""

    name: str
    value: str
    basis: Basis
    source: str


@dataclass(frozen=True)
class Intervals:
    """Checkpoint intervals in seconds; infinite where nothing ever fails."""

    chosen: float
    best: float
    """optimum of the closed form"""
    best_simulated: float
    """the best point of the curve"""
    young: float
    daly: float


@dataclass(frozen=True)
class CurvePoint:
    interval: float
    """seconds"""
    effective: Band
    closed_form: float


@dataclass(frozen=True)
class ClusterReport:
    """Parts of the wall clock are between 0 and 1, durations in seconds."""

    cluster: Cluster
    effective: Band
    closed_form: float
    slowdown: float
    """mean step over one without stragglers"""
    goodput: Band
    """effective time over the slowdown: throughput over that of a cluster that never fails nor waits"""
    shares: dict[str, Band]
    failures: Band
    failures_by_kind: dict[str, Band]
    intervals: Intervals
    curve: tuple[CurvePoint, ...]
    answers: Answers
    at_answer: Band | None
    """Monte-Carlo effective time with the best interval and the longest restart that should reach the target"""
    assumptions: tuple[Assumption, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data; what is infinite becomes null."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        cluster = fields.pop("cluster")
        return {
            "settings": cluster.model_dump(),
            "failures_per_device_hour": cluster.device_rate,
            "mtbf": _plain(cluster.mtbf),
            "restart": cluster.restart_seconds,
            **{name: _plain(value) for name, value in fields.items()},
        }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def cluster_report(cluster: Cluster) -> ClusterReport:
    """Simulate the cluster and solve for its target."""
    chosen = chosen_interval(cluster)
    own = simulate(cluster)
    effective = Band.of(own.effective[0])
    slowdown = expected_slowdown(cluster.devices, cluster.jitter, cluster.slow_share, cluster.slow_factor)
    curve = _curve(cluster)
    solved = answers(cluster)
    return ClusterReport(
        cluster=cluster, effective=effective, closed_form=effective_share(cluster, chosen), slowdown=slowdown,
        goodput=Band(*(value / slowdown for value in dataclasses.astuple(effective))),
        shares=own.shares(), failures=own.interruptions(),
        failures_by_kind={kind: Band.of(counts) for kind, counts in own.failures.items()},
        intervals=Intervals(
            chosen=chosen, best=best_interval(cluster),
            best_simulated=max(curve, key=lambda point: point.effective.mean).interval,
            young=young_interval(cluster.blocking, cluster.mtbf) if cluster.blocking else 0.0,
            daly=daly_interval(cluster.blocking, cluster.mtbf) if cluster.blocking else 0.0,
        ),
        curve=curve, answers=solved, at_answer=_at_answer(cluster, solved), assumptions=_assumptions(cluster),
    )  # fmt: skip


def _curve(cluster: Cluster) -> tuple[CurvePoint, ...]:
    """Intervals around the best and the chosen one, evenly spread on a logarithmic axis."""
    best, chosen = best_interval(cluster), chosen_interval(cluster)
    least = least_interval(cluster)
    first = max(least, min(best, chosen) / _SPAN)
    last = max(min(cluster.horizon, max(best, chosen) * _SPAN), 2 * first)
    intervals = np.unique([*np.geomspace(first, last, _POINTS), best, chosen])
    found: Simulation = simulate(cluster, intervals.tolist())
    return tuple(
        CurvePoint(
            float(interval), Band.of(found.effective[number]), effective_share(cluster, float(interval))
        )
        for number, interval in enumerate(intervals)
    )


def _at_answer(cluster: Cluster, solved: Answers) -> Band | None:
    restart = solved.restart_at_best
    if restart is None or math.isinf(restart):
        return None
    there = cluster.model_copy(update={"restart": restart, "interval": best_interval(cluster)})
    return Band.of(simulate(there).effective[0])


def _assumptions(cluster: Cluster) -> tuple[Assumption, ...]:
    found = [_failure_rate(cluster)]
    for name, row in reliability_table().defaults.items():
        if cluster.restart is not None and name in _RESTART_PARTS:
            continue
        value = f"{getattr(cluster, name):g}" + (
            "" if name in ("restart_spread", "planned_per_day") else " s"
        )
        mine = name in cluster.model_fields_set
        found.append(
            Assumption(name, value, "declared" if mine else row.basis, "given" if mine else row.told)
        )
    if cluster.restart is not None:
        found.append(Assumption("restart", f"{cluster.restart:g} s", "declared", "given"))
    if cluster.jitter or cluster.slow_share:
        law = f"jitter {cluster.jitter:g}, {cluster.slow_share:.3g} of the devices at {cluster.slow_factor:g}"
        found.append(Assumption("stragglers", law, "declared", "given"))
    else:
        why = "none declared, so none counted: jitter and slow_share take what you have measured"
        found.append(Assumption("stragglers", "none", "unknown", why))
    why = "failures come independently at a constant rate on the wall clock (Poisson), and each stops every device"
    found.append(Assumption("law of failures", "exponential", "modelled", why))
    why = "spares are always there; every checkpoint that was written whole can be read; a fault is known by the end of detection, so silent corruption that shows later costs more"
    found.append(Assumption("left out", "", "modelled", why))
    return tuple(found)


def _failure_rate(cluster: Cluster) -> Assumption:
    value = f"{cluster.device_rate:.3g} per device-hour"
    if cluster.failures_per_device_hour is not None:
        return Assumption("failures", value, "declared", "given")
    row = reliability_table().fleet(cluster.gpu)
    return Assumption("failures", value, row.basis, row.told)
