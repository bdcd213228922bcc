"""Seconds of a single matrix product and of a single collective, from a device's fitted figures."""

from __future__ import annotations

from typing import Literal

import numpy as np

from arriero.cost.hardware.table import Hardware
from arriero.cost.time.terms import Seconds
from arriero.cost.time.units import Number

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]

_EPILOGUE = 0.3
"""Share of a product's result, at peak bandwidth, that is written after its last multiply-add has run."""
_FULL_NODE = 8


def product_seconds(
    m: Number, n: Number, k: Number, hardware: Hardware, dtype: str = "bf16", width: float = 2.0
) -> Seconds:
    """Time of ``(m, k) @ (k, n)`` at elements of ``width`` bytes; NaN where the device's figures are unknown.

    ``t = t0 + sqrt(compute^2 + memory^2) + epilogue`` with compute ``2mnk / (e peak)`` and memory ``bytes / (beta
    bandwidth)``: a roofline without its sharp corner, for near the ridge both are busy and neither is hidden fully.
    """
    peak, bandwidth = hardware.peak(dtype), hardware.bandwidth
    efficiency, streaming = hardware.get("gemm_efficiency"), hardware.get("bandwidth_efficiency")
    overhead = hardware.get("op_overhead_us")
    if peak is None or bandwidth is None or efficiency is None or streaming is None or overhead is None:
        return np.full(np.broadcast_shapes(np.shape(m), np.shape(n), np.shape(k)), np.nan)
    compute = 2.0 * m * n * k / (efficiency * peak)
    memory = width * (m * k + k * n + m * n) / (streaming * bandwidth)
    return overhead + np.hypot(compute, memory) + _EPILOGUE * width * m * n / bandwidth


def bus_bytes(kind: Collective, size: Number, devices: Number) -> Number:
    """Bytes over the slowest link of a ring for a collective over ``size`` bytes (of the whole, gathered tensor)."""
    return size * (devices - 1) / devices * (2.0 if kind == "all_reduce" else 1.0)


def collective_seconds(kind: Collective, size: Number, devices: Number, hardware: Hardware) -> Seconds:
    """Time of a collective inside a node; NaN where the device's figures are unknown.

    ``t = a + v + sqrt(a v)`` with latency a and volume over bus v: messages are cut in pieces that follow each other,
    and the best cut leaves a mixed term (the pipelined broadcast of Thakur, Rabenseifner and Gropp 2005). All-reduce
    and all-gather have buses of their own, and both grow with the number of devices that take part.
    """
    figures = [hardware.get(f"{kind}_{name}") for name in ("bus_gb_s", "latency_us", "doubling_us", "growth")]
    bus, latency, doubling, growth = figures
    if bus is None or latency is None or doubling is None or growth is None:
        return np.full(np.broadcast_shapes(np.shape(size), np.shape(devices)), np.nan)
    count = np.asarray(devices, dtype=float)
    delay = latency + doubling * np.log2(np.maximum(count, 2.0) / 2)
    volume = bus_bytes(kind, size, count) / (bus * (count / _FULL_NODE) ** growth)
    return np.where(count > 1, delay + volume + np.sqrt(delay * volume), 0.0)
