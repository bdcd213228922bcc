"""Figures of a device from measured products and collectives: what `tables/hardware.yaml` holds was found so.

The mean of absolute relative errors is minimised by a search along the coordinates (in logarithms), for it has corners.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from arriero.cost.hardware.table import Hardware
from arriero.cost.time.kernels import Collective, collective_seconds, product_seconds

LARGE = 20e-6
"""Seconds from which a product counts as large; shorter ones weigh less, for they are mostly launching."""
_SMALL_WEIGHT = 0.3


def fit_products(
    m: np.ndarray, n: np.ndarray, k: np.ndarray, seconds: np.ndarray, hardware: Hardware, dtype: str = "bf16"
) -> Hardware:
    """The device with e, beta and t0 from measured products ``(m, k) @ (k, n)``; arrays of one shape [rows]."""
    weights = np.where(seconds > LARGE, 1.0, _SMALL_WEIGHT)
    start = {"gemm_efficiency": 0.7, "bandwidth_efficiency": 0.7, "op_overhead_us": 3e-6}
    return _fitted(hardware, start, lambda one: product_seconds(m, n, k, one, dtype) / seconds - 1, weights)


def fit_collective(
    kind: Collective, size: np.ndarray, devices: np.ndarray, seconds: np.ndarray, hardware: Hardware
) -> Hardware:
    """The device with bus, latencies and growth of one kind of collective; arrays of one shape [rows]."""
    start = {
        f"{kind}_bus_gb_s": 2e11, f"{kind}_latency_us": 1e-5, f"{kind}_doubling_us": 3e-6, f"{kind}_growth": 0.15,
    }  # fmt: skip
    errors = lambda one: collective_seconds(kind, size, devices, one) / seconds - 1  # noqa: E731
    return _fitted(hardware, start, errors, np.ones(len(seconds)))


def _fitted(
    hardware: Hardware, start: dict[str, float], errors: Callable[[Hardware], np.ndarray], weights: np.ndarray
) -> Hardware:
    def at(logarithms: np.ndarray) -> Hardware:
        found = dict(zip(start, np.exp(logarithms).tolist(), strict=True))
        return replace(hardware, figures={**hardware.figures, **found})

    best = descend(
        lambda x: float(np.average(np.abs(errors(at(x))), weights=weights)), np.log(list(start.values()))
    )
    return at(best)


def descend(loss: Callable[[np.ndarray], float], start: np.ndarray, rounds: int = 40) -> np.ndarray:
    """The point where no step along a coordinate lowers ``loss`` any more, steps growing on success."""
    point, best, step = start.copy(), loss(start), np.full(len(start), 0.2)
    for _ in range(rounds):
        for axis in range(len(point)):
            for sign in (1.0, -1.0):
                tried = point.copy()
                tried[axis] += sign * step[axis]
                reached = loss(tried)
                if reached < best:
                    point, best = tried, reached
                    step[axis] *= 1.3
                    break
            else:
                step[axis] *= 0.5
    return point
