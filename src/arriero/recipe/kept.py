"""What a process keeps of the stages that it ran before: code that was loaded, kernels, pieces of freed memory.

A stage's own plan knows a fresh process. `arriero run` works the stages off in one, whose resident memory never falls back
to where it began. The figures were read off ledgers of runs on the CPU (medians of measured less planned peaks).
"""

from __future__ import annotations

from collections.abc import Iterable

from arriero.cost.device import DeviceProfile
from arriero.cost.estimate import Estimate
from arriero.cost.quantity import Quantity

MIB = 2.0**20
PLANNED = 80 * MIB
"""Of planning itself: tracing on fake tensors loads much, and has happened in the process that then runs the stages."""
KEPT = {"sft": 120 * MIB, "dpo": 50 * MIB, "evaluate": 80 * MIB}
"""What the first stage of a kind adds for itself and all after it (templates, generation, reference tables)."""
COMPUTES = frozenset({"pretrain", "sft", "dpo", "quantize", "evaluate", "export"})
"""Kinds of stage that compute with a model, so that their plan counts tensors and not this."""
SPREAD = 0.6
"""Factor, less 1, by which what is kept may be off either way."""


def with_kept(estimate: Estimate, kind: str, before: Iterable[str], device: DeviceProfile) -> Estimate:
    """The estimate of a stage as it runs in the process that planned it and ran stages of the kinds ``before``.

    Only on the CPU: an accelerator's memory holds tensors alone.
    """
    peak = estimate.peak_memory
    if kind not in COMPUTES or not peak.known or device.device != "cpu":
        return estimate
    assert peak.value is not None and peak.low is not None and peak.high is not None
    kept = PLANNED + sum(KEPT.get(name, 0.0) for name in {*before, kind})
    held = Quantity(
        value=peak.value + kept, low=peak.low + kept / (1 + SPREAD), high=peak.high + kept * (1 + SPREAD), unit=peak.unit,
        basis=peak.basis, source=f"{peak.source}; and what the process keeps of planning and of earlier stages",
    )  # fmt: skip
    return estimate.model_copy(update={"peak_memory": held})
