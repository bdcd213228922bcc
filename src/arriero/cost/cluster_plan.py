"""Effective training time for a plan: what part of a multi-device run's wall clock is training that stays."""

from __future__ import annotations

from typing import Any

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_simulate import Band, simulate
from arriero.cost.cluster_table import reliability_table
from arriero.cost.quantity import Quantity


def effective_time(
    parallel_devices: int, seconds: float, *, gpu: str | None = None, **settings: Any
) -> Quantity:
    """Effective training time of a run of ``seconds`` on ``parallel_devices`` devices, unit "1" (0 to 1).

    ``gpu`` is a name of the table or what the device's driver calls it; ``settings`` are those of
    :class:`~arriero.cost.cluster.Cluster` (``interval``, ``blocking``, ``restart``, ...). The band is the 80 %
    interval of seeded Monte-Carlo runs. Planned stops are yours to plan: none, unless ``planned_per_day`` is given. A device without a published failure rate gives an unknown quantity, never
    another device's figure, unless ``failures_per_device_hour`` is among the settings.

    Raises:
        ArrieroError: a setting that is unknown or makes no sense.
    """
    table = reliability_table()
    row = None if gpu is None else table.name(gpu)
    if row is None and settings.get("failures_per_device_hour") is None:
        device = f"gpu '{gpu}'" if gpu else "this device"
        return Quantity.unknown("1", f"no failure rate is known for {device}; give failures_per_device_hour")
    given = {
        "planned_per_day": 0,
        **settings,
        "devices": parallel_devices,
        "days": seconds / 86400,
        "gpu": row or gpu or "unnamed",
    }
    cluster = Cluster.of(given)
    found = Band.of(simulate(cluster).effective[0])
    source = (
        "your failure rate" if cluster.failures_per_device_hour is not None else table.fleet(cluster.gpu).told
    )
    return Quantity(
        value=found.mean, low=min(found.low, found.mean), high=max(found.high, found.mean), unit="1", basis="modelled",
        source=f"{cluster.expected_failures:.3g} failures expected; {source}",
    )  # fmt: skip


def wall_time(training: Quantity, share: Quantity) -> Quantity:
    """Seconds on the wall clock of a run that trains for ``training`` seconds with that effective time (unit "1").

    Unknown where either is, or where the effective time may be 0.
    """
    if share.value is None or share.low is None or share.high is None:
        return Quantity.unknown("s", share.source)
    if not share.low > 0:
        return Quantity.unknown("s", "the run may never get on: its effective time is 0 in some trials")
    inverse = Quantity(
        value=1 / share.value, low=1 / share.high, high=1 / share.low, unit="1", basis=share.basis, source=share.source
    )  # fmt: skip
    return training.times(inverse, "s")
