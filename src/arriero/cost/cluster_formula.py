"""Closed forms of the effective training time: Young 1974, Daly 2006, and Daly's model with an asynchronous write.

Of one stretch between failures, Exp(M) long with M the mean time between failures, what counts is the work up to the
last checkpoint that was written whole. With an interval tau, a pause delta and a write of alpha behind it, checkpoint
k is whole at k (tau + delta) + alpha, so a stretch saves on average

    tau sum_k P(stretch >= k (tau + delta) + alpha) = tau e^(-alpha/M) / (e^((tau+delta)/M) - 1)

seconds of work. The cluster is down from a failure until the restart ends, and longer if others come meanwhile: the
busy period of an M/G/infinity queue, M (e^(R/M) - 1) on average for any law of restart times with mean R (Takacs
1962). So a stretch with its outage takes M e^(R/M), and for alpha = 0 the ratio is Daly's model exactly.
"""

from __future__ import annotations

import math

from arriero.cost.cluster import Cluster

_LEAST = 1.0
"""No interval below this many seconds is looked at: it would be shorter than a step."""


def young_interval(blocking: float, mtbf: float) -> float:
    """First-order optimum of the interval in seconds: sqrt(2 delta M) (Young 1974)."""
    return math.sqrt(2 * blocking * mtbf)


def daly_interval(blocking: float, mtbf: float) -> float:
    """Higher-order optimum in seconds: sqrt(2 delta M) (1 + x/3 + x²/9) - delta with x = sqrt(delta / 2M); M where
    delta >= 2M (Daly 2006)."""
    if math.isinf(mtbf):
        return math.inf
    if blocking >= 2 * mtbf:
        return mtbf
    x = math.sqrt(blocking / (2 * mtbf))
    return math.sqrt(2 * blocking * mtbf) * (1 + x / 3 + x * x / 9) - blocking


def exact_interval(blocking: float, mtbf: float) -> float:
    """The interval in seconds that maximises the closed form: the root of e^(-(tau+delta)/M) = 1 - tau/M.

    Neither the restart nor the asynchronous write moves it: they are factors of the closed form.
    """
    if math.isinf(mtbf) or blocking == 0:
        return 0.0 if blocking == 0 else math.inf
    low, high = 0.0, mtbf
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if math.expm1(-(middle + blocking) / mtbf) + middle / mtbf < 0 else (low, middle)
        )
    return (low + high) / 2


def least_interval(cluster: Cluster) -> float:
    """The shortest interval worth a look: the last asynchronous write is over when the next checkpoint begins."""
    return max(cluster.asynchronous - cluster.blocking, min(_LEAST, cluster.horizon))


def best_interval(cluster: Cluster) -> float:
    """The optimum of the closed form, not under :func:`least_interval` nor over the run's length; seconds."""
    found = exact_interval(cluster.blocking, cluster.mtbf)
    return max(least_interval(cluster), min(found, cluster.horizon))


def chosen_interval(cluster: Cluster) -> float:
    """The interval that was given, else the best; seconds."""
    return best_interval(cluster) if cluster.interval is None else cluster.interval


def effective_share(cluster: Cluster, interval: float, restart: float | None = None) -> float:
    """Long-run part of the wall clock that goes into training that stays, 0 to 1.

    ``interval`` and ``restart`` in seconds, the latter by default the cluster's. Planned stops are taken off as a
    share of the wall clock.
    """
    rate = cluster.rate
    outage = cluster.restart_seconds if restart is None else restart
    period = interval + cluster.blocking
    if rate == 0:
        saved = interval / period
    else:
        exponent = rate * (period + cluster.asynchronous + outage)
        # e^(-a) / (e^p - 1) = e^(-a-p) / (1 - e^(-p)), which cannot overflow
        saved = rate * interval * math.exp(-exponent) / -math.expm1(-rate * period)
    return saved * (1 - cluster.planned_share)
