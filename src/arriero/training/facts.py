"""What a finished training run has to say for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.cost.device import DeviceProfile
from arriero.training.telemetry import peak_flops_per_s

if TYPE_CHECKING:
    from arriero.training.loop import TrainResult

MFU_FORMULA = (
    "FLOPs of the training steps (multiply-adds count two, attention as it is worked out, nothing element-wise) "
    "/ (seconds in training steps x the fastest matrix product in the device profile, in the run's precision)"
)


def training_facts(result: TrainResult, profile: DeviceProfile | None) -> dict[str, Any]:
    """Loss curve, tokens, speed, arithmetic and precision of a run, over all its resumes."""
    totals = result.totals
    curve = totals.curve_means()
    seconds = max(1e-9, totals.train_seconds)
    facts: dict[str, Any] = {
        "steps": result.steps, "samples": totals.samples, "tokens": totals.tokens,
        "tokens_per_s": round(totals.tokens / seconds, 1), "train_seconds": round(totals.train_seconds, 3),
        "cpu_seconds": round(totals.cpu_seconds, 3),
        "data_wait_share": totals.waited / seconds, "loop_seconds": round(totals.seconds, 3), "flops": totals.flops, "precision": result.arithmetic.precision,
        "threads": result.arithmetic.threads, "processes": result.processes,
        "loss": {"first": curve[0], "last": curve[-1], "lowest": min(curve), "curve": curve},
        "heldout": totals.evaluations, "weights_step": result.weights_step,
        "heldout_model": result.heldout, "events": totals.events, "tasks": totals.tasks,
    }  # fmt: skip
    peak = peak_flops_per_s(profile, result.arithmetic.dtype)
    if peak:
        peak *= result.devices
        facts["mfu"] = {
            "value": totals.train_flops / seconds / peak, "formula": MFU_FORMULA,
            "precision": result.arithmetic.dtype, "peak_flops_per_s": peak,
        }  # fmt: skip
    return facts
