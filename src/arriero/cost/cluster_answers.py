"""What reaches a target of effective time: which checkpoint interval, which restart time, and the frontier of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from arriero.cost.cluster import Cluster
from arriero.cost.cluster_formula import best_interval, chosen_interval, effective_share, least_interval

_STEPS = 100
_RESTARTS = (0.0, 60.0, 120.0, 180.0, 300.0, 480.0, 600.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True)
class Window:
    """The intervals (seconds) that reach the target with a restart of ``restart`` seconds; None: no interval does."""

    restart: float
    best_share: float
    """effective time with the best interval"""
    shortest: float | None
    longest: float | None


@dataclass(frozen=True)
class Answers:
    """What reaches ``target``. Durations in seconds; from the closed form."""

    target: float
    now: float
    """effective time with the chosen interval and restart"""
    window: Window
    """the intervals that reach it with the cluster's own restart"""
    restart_at_chosen: float | None
    """the longest restart that reaches it with the chosen interval; None: none does"""
    restart_at_best: float | None
    """the longest restart that reaches it with the best interval; None: none does"""
    frontier: tuple[Window, ...]


def answers(cluster: Cluster, restarts: Sequence[float] = _RESTARTS) -> Answers:
    """Solve for the interval, for the restart, and for the interval at each of ``restarts`` (seconds)."""
    own = cluster.restart_seconds
    chosen, best = chosen_interval(cluster), best_interval(cluster)
    return Answers(
        target=cluster.target,
        now=effective_share(cluster, chosen),
        window=interval_window(cluster, own),
        restart_at_chosen=longest_restart(cluster, chosen),
        restart_at_best=longest_restart(cluster, best),
        frontier=tuple(interval_window(cluster, restart) for restart in sorted({*restarts, own})),
    )


def longest_restart(cluster: Cluster, interval: float) -> float | None:
    """The longest mean restart in seconds with which ``interval`` reaches the target; None where even 0 does not.

    The effective time is its value at 0 times e^(-R/M), so R = M ln(value at 0 / target); infinite without failures.
    """
    at_once = effective_share(cluster, interval, restart=0.0)
    if at_once < cluster.target:
        return None
    return cluster.mtbf * math.log(at_once / cluster.target) if cluster.rate else math.inf


def interval_window(cluster: Cluster, restart: float) -> Window:
    """The intervals that reach the target with that restart: the share rises up to the best and falls after it."""
    best = best_interval(cluster)
    share = effective_share(cluster, best, restart)
    if share < cluster.target:
        return Window(restart, share, None, None)
    shortest = _border(cluster, restart, inside=best, outside=least_interval(cluster))
    longest = _border(cluster, restart, inside=best, outside=max(best, cluster.horizon))
    return Window(restart, share, shortest, longest)


def _border(cluster: Cluster, restart: float, *, inside: float, outside: float) -> float:
    """Where between the two intervals the target is crossed; ``outside`` itself where it reaches the target too."""
    if effective_share(cluster, outside, restart) >= cluster.target:
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if effective_share(cluster, middle, restart) >= cluster.target:
            inside = middle
        else:
            outside = middle
    return inside
