"""Seconds per unit of work of a device: the best that is known of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from arriero.cost.device import DeviceProfile
from arriero.cost.time import Coefficients, prior
from arriero.cost.time.coefficients import NAMES, datasheet
from arriero.cost.workload import Workload
from arriero.planning.estimate.device_source import Device
from arriero.planning.estimate.question import Precision

if TYPE_CHECKING:
    from arriero.cost.trace import Op

_OPERATIONS_A_BLOCK = 40
_KERNELS_A_BLOCK = 15
"""Of a forward pass: three norms and residuals, five products or so, rotary turns, attention, activation and gate."""
_TYPICAL_OVERHEAD = 3e-6
"""Seconds of a launch, where nobody has measured it."""
_ADAMW_BYTES = 32.0
"""A parameter's fp32 weight, gradient and two states, each read and written, as `cost.time` counts them."""
_ROWS = 2048
"""Rows of the products whose rate stands for all."""
_FORMULA_SPREAD = 0.2
"""Standard deviation that rates measured one by one deserve when a formula adds them up."""


def coefficients_of(device: Device, precision: Precision, workload: Workload) -> Coefficients:
    """For a listed device what runs of its class say, else its data sheet; for this machine what was measured."""
    if device.profile is not None:
        return measured_coefficients(device.profile, precision, workload)
    assert device.hardware is not None
    return prior(device.hardware, precision)


def serving_coefficients(device: Device, precision: Precision, workload: Workload) -> Coefficients:
    """The same for answering. Training steps of its class say nothing of it: a listed device has its data sheet, reads
    weights and kept values at the streaming rate, and launches the few kernels of a forward pass."""
    if device.profile is not None:
        return measured_coefficients(device.profile, precision, workload)
    assert device.hardware is not None
    sheet = datasheet(device.hardware, precision)
    overhead = device.hardware.get("op_overhead_us") or _TYPICAL_OVERHEAD
    changed = {"elementwise": sheet.of("optimizer"), "launch": _KERNELS_A_BLOCK * overhead, "step": 0.0}
    return replace(sheet, values=np.array([changed.get(name, sheet.of(name)) for name in NAMES]))


def measured_coefficients(profile: DeviceProfile, precision: Precision, workload: Workload) -> Coefficients:
    """From the rates in the device profile at the sizes of the model in question; links are unknown."""
    from arriero.cost.roofline import attention_rate, elementwise_rate, matmul_rate
    from arriero.cost.trace import Op

    dtype = "float32" if precision == "fp32" else "bfloat16"
    size, rows = workload.dimensions, min(_ROWS, workload.context)
    products = 1 / matmul_rate(_product(dtype, rows, size.d_model, size.d_ff or 4 * size.d_model), profile)
    scores = Op("attention", "attention", dtype, rows, size.head_dim, rows, size.n_heads, 0.0, 0, 1)
    streamed = 4.0 * rows * size.d_model
    seconds = {
        "products": products,
        "attention": 1 / attention_rate(scores, profile),
        "elementwise": 1 / elementwise_rate("stream", "float32", max(streamed, 1.0), profile),
        "head": 1 / matmul_rate(_product(dtype, rows, size.d_model, size.vocab_size), profile),
        "optimizer": 1 / (_ADAMW_BYTES * profile.optimizer_params_per_s),
        "launch": _OPERATIONS_A_BLOCK * profile.op_seconds,
        "hop": 0.0,
        "step": 0.0,
    }
    values = np.array([seconds.get(name, np.nan) for name in NAMES])
    return Coefficients(
        profile.accelerator or profile.cpu, dtype, values, tier="calibrated", spread=_FORMULA_SPREAD,
        rows=len(profile.matmul), sources=(f"arriero calibrate, {profile.measured_at}",),
    )  # fmt: skip


def _product(dtype: str, m: int, k: int, n: int) -> Op:
    from arriero.cost.trace import Op

    return Op("mm", "matmul", dtype, m, k, n, 1, 0.0, 0, 1)
