"""Stragglers: a synchronous step takes as long as its slowest device."""

from __future__ import annotations

import math

import numpy as np

_POINTS, _REACH = 4001, 10.0
_LEAST_JITTER = 1e-9
"""Less than this is none: it could not be told from rounding."""


def expected_slowdown(
    devices: int, jitter: float, slow_share: float = 0.0, slow_factor: float = 1.0
) -> float:
    """Mean length of a step over the mean length of one sound device's: the expected maximum over the devices.

    Each device's time is log-normal with mean 1 and sigma ``jitter``, independent of the others; a device is slow
    with probability ``slow_share`` and then takes ``slow_factor`` times as long. The expected maximum of n
    independent times with distribution F is the integral of 1 - F(x)^n; it is taken over log x by the trapezoid rule.
    """
    if jitter < _LEAST_JITTER:
        return (
            1 + (slow_factor - 1) * -math.expm1(devices * math.log1p(-slow_share))
            if slow_share < 1
            else slow_factor
        )
    if devices == 1:
        return 1 + slow_share * (slow_factor - 1)
    mean = -jitter * jitter / 2
    start, end = mean - _REACH * jitter, mean + _REACH * jitter + math.log(slow_factor)
    logs = np.linspace(start, end, _POINTS)
    survival = (1 - slow_share) * _upper_tail((logs - mean) / jitter)
    survival += slow_share * _upper_tail((logs - math.log(slow_factor) - mean) / jitter)
    with np.errstate(divide="ignore"):
        none_longer = np.exp(devices * np.log1p(-np.minimum(survival, 1.0)))
    heights = (1 - none_longer) * np.exp(logs)
    # numpy 1 calls its own rule trapz, numpy 2 trapezoid
    return float(math.exp(start) + ((heights[1:] + heights[:-1]) / 2 * np.diff(logs)).sum())


def _upper_tail(z: np.ndarray) -> np.ndarray:
    """P(Z > z) of a standard normal variable, exact far out in the tail."""
    return np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z])
