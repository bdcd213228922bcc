"""A workload and coefficients with round figures."""

from __future__ import annotations

import numpy as np

from arriero.cost.time.coefficients import NAMES, Coefficients
from arriero.cost.time.shapes import Shape, workload_of_shape
from arriero.cost.workload import Workload


def a_workload(layers: int = 8, context: int = 512, **more: object) -> Workload:
    shape = Shape(256, layers, 4, 1000, n_kv_heads=2, d_ff=768, gated=True, tied=False)
    return workload_of_shape(shape, context, name="toy", **more)  # type: ignore[arg-type]


def coefficients(**seconds: float) -> Coefficients:
    """Those named, all others zero."""
    values = np.array([seconds.get(name, 0.0) for name in NAMES])
    return Coefficients("a device", "bf16", values)


def ordinary() -> Coefficients:
    """Of a made-up device: every kind of work takes a time that shows."""
    seconds = (1e-13, 3e-13, 1e-12, 1e-13, 1e-12, 5e-12, 6e-12, 4e-11, 2e-5, 2e-4, 5e-3)
    return Coefficients("a device", "bf16", np.array(seconds))
