"""Monte-Carlo runs of a cluster: draw the failures, replay them against checkpoints, restarts and planned stops.

All trials, and all intervals that are compared, go through one loop over the events; every interval meets the same
failures, so that differences between intervals are not noise. Checkpoints stand at multiples of the interval in
training time ("every n steps"), so a job that was rolled back writes the same checkpoints again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_formula import chosen_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Events:
    """What interrupts each trial, in order of time; rows are padded with infinity."""

    times: Floats
    """seconds since the start, [trials, events]"""
    outages: Floats
    """seconds until training goes on, [trials, events]"""
    planned: NDArray[np.bool_]
    """whether it is a planned stop, [trials, events]"""


@dataclass(frozen=True)
class Tally:
    """Where the wall clock of each trial went, in seconds, [intervals, trials]; the five add up to the horizon."""

    useful: Floats
    """training that stays"""
    lost: Floats
    """training that a failure undid"""
    checkpoints: Floats
    """training stopped for a checkpoint"""
    restarts: Floats
    """from a failure to training again"""
    planned: Floats
    """planned stops, their checkpoint among it"""


@dataclass(frozen=True)
class Band:
    """A mean over trials with its 80 % interval (10th to 90th percentile of the trials)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64] | NDArray[np.int64]) -> Band:
        low, high = np.quantile(values, (0.1, 0.9))
        return cls(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Simulation:
    """The trials of one cluster."""

    cluster: Cluster
    intervals: Floats
    """seconds, [intervals]"""
    tally: Tally
    failures: dict[str, NDArray[np.int64]]
    """failures of each kind, [trials]"""

    @property
    def effective(self) -> Floats:
        """Part of the wall clock that went into training that stays, [intervals, trials]."""
        return self.tally.useful / self.cluster.horizon

    def interruptions(self) -> Band:
        """Failures in a run, all kinds."""
        return Band.of(np.sum([*self.failures.values()], axis=0))

    def shares(self, interval: int = 0) -> dict[str, Band]:
        """Where the wall clock went with the interval of that number, as parts of 1."""
        tally = vars(self.tally)
        return {name: Band.of(seconds[interval] / self.cluster.horizon) for name, seconds in tally.items()}


def simulate(cluster: Cluster, intervals: Sequence[float] | None = None) -> Simulation:
    """The cluster's trials with its own interval, or with each of ``intervals`` (seconds) on the same failures."""
    generator = np.random.default_rng(cluster.seed)
    counts = generator.poisson(cluster.expected_failures, cluster.trials)
    kinds = generator.multinomial(counts, [*cluster.kinds.values()])
    events = _draw(cluster, counts, generator)
    taken = np.asarray([chosen_interval(cluster)] if intervals is None else intervals, dtype=np.float64)
    tally = replay(events, taken, cluster)
    by_kind = {kind: kinds[:, number] for number, kind in enumerate(cluster.kinds)}
    return Simulation(cluster, taken, tally, by_kind)


def _draw(cluster: Cluster, counts: NDArray[np.int64], generator: np.random.Generator) -> Events:
    """A Poisson process on the horizon for each trial: that many uniform times, sorted."""
    width = max(int(counts.max()), 0)
    times = generator.uniform(0.0, cluster.horizon, (len(counts), width))
    times[np.arange(width) >= counts[:, None]] = np.inf
    times.sort(axis=1)
    sigma = cluster.restart_spread
    spread = generator.normal(-sigma * sigma / 2, sigma, times.shape)
    return with_planned_stops(times, cluster.restart_seconds * np.exp(spread), cluster)


def with_planned_stops(times: Floats, outages: Floats, cluster: Cluster) -> Events:
    """Failures (times and restarts in seconds, [trials, failures]) with the planned stops put among them."""
    stops = cluster.planned_stops
    at = np.broadcast_to((np.arange(stops) + 0.5) * cluster.horizon / max(stops, 1), (len(times), stops))
    every = np.concatenate([times, at], axis=1)
    order = np.argsort(every, axis=1, kind="stable")
    lasts = cluster.planned_stop + cluster.blocking + cluster.asynchronous
    all_outages = np.concatenate([outages, np.full(at.shape, lasts)], axis=1)
    planned = np.concatenate([np.zeros(times.shape, bool), np.ones(at.shape, bool)], axis=1)
    return Events(*(np.take_along_axis(part, order, axis=1) for part in (every, all_outages, planned)))


def replay(events: Events, intervals: Floats, cluster: Cluster) -> Tally:
    """What becomes of each trial (rows of ``events``) with each of ``intervals`` (seconds).

    A failure undoes the work since the last checkpoint that was written whole; one that comes while the cluster is
    down prolongs the outage to the end of its own restart if that is later. A planned stop saves first.
    """
    state = _State(intervals[:, None], len(events.times), cluster)
    for number in range(events.times.shape[1]):
        state.meet(events.times[:, number], events.outages[:, number], events.planned[:, number])
    return state.finish()


class _State:
    """Every trial with every interval, [intervals, trials], between two events."""

    def __init__(self, interval: Floats, trials: int, cluster: Cluster) -> None:
        self.interval, self.period = interval, interval + cluster.blocking
        self.asynchronous, self.horizon = cluster.asynchronous, cluster.horizon
        shape = (len(interval), trials)
        self.up_from = np.zeros(shape)
        """when training goes on, or went on"""
        self.offset = np.zeros(shape)
        """training that was saved since the last multiple of the interval (after a planned stop)"""
        self.useful, self.lost, self.paused = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.down, self.planned = np.zeros(shape), np.zeros(shape)

    def _progress(self, now: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Since training went on: seconds trained, seconds paused, the clock as if it had begun at the last multiple
        of the interval, and how far that is into the present period."""
        up = np.maximum(now - self.up_from, 0.0)
        clock = up + self.offset
        periods = np.floor(clock / self.period)
        into = clock - periods * self.period
        trained = periods * self.interval + np.minimum(into, self.interval) - self.offset
        return trained, up - trained, clock, into

    def meet(self, times: Floats, outages: Floats, planned: NDArray[np.bool_]) -> None:
        """One event of each trial, [trials]; at infinity there is none."""
        live = times < self.horizon
        now = np.where(live, times, 0.0)
        up = live & (now > self.up_from)
        trained, paused, clock, into = self._progress(now)
        whole = np.maximum(np.floor((clock - self.asynchronous) / self.period), 0.0)
        stays = np.where(planned, trained, np.maximum(whole * self.interval - self.offset, 0.0))
        self.useful += np.where(up, stays, 0.0)
        self.lost += np.where(up, trained - stays, 0.0)
        self.paused += np.where(up, paused, 0.0)
        saved_to = np.where(
            planned, np.where(into < self.interval, into, 0.0), np.where(whole > 0, 0.0, self.offset)
        )
        self.offset = np.where(up, saved_to, self.offset)
        goes_on = np.maximum(np.minimum(now + outages, self.horizon), self.up_from)
        outage = np.where(live, goes_on - np.maximum(now, self.up_from), 0.0)
        self.down += np.where(planned, 0.0, outage)
        self.planned += np.where(planned, outage, 0.0)
        self.up_from = np.where(live, goes_on, self.up_from)

    def finish(self) -> Tally:
        """The end of the run saves what was trained: nothing is lost there."""
        trained, paused, _, _ = self._progress(np.full(self.up_from.shape, self.horizon))
        return Tally(self.useful + trained, self.lost, self.paused + paused, self.down, self.planned)
