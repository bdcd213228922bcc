"""Arithmetic of a run under a named convention, and the share of the peak that it reaches."""

from __future__ import annotations

from arriero.cost.quantity import Quantity
from arriero.cost.workload import Workload
from arriero.planning.estimate.method import Method
from arriero.planning.estimate.outcome import Outcome


def model_flops(workload: Workload, tokens: float) -> dict[str, float]:
    """FLOP by class that ``tokens`` tokens need: multiply-adds count two, causal attention its half, nothing twice.

    Attention's backward pass counts twice its forward pass: what flash attention works out again is left out, as is
    all recomputation. Frozen weights have no gradients, so LoRA's backward pass is smaller.
    """
    forward, backward = workload.forward, workload.backward
    sequences = tokens / workload.context
    trained = backward.attention > 0
    return {
        "products": sequences * (forward.products + backward.products),
        "attention": sequences * forward.attention * workload.needed * (3.0 if trained else 1.0),
        "head": sequences * (forward.head + backward.head),
    }


def method_flops(method: Method, tokens: float) -> dict[str, float]:
    """FLOP by class of all phases, where ``tokens`` tokens go through the model that is trained."""
    samples = tokens / (method.main.sequences * method.workload.context)
    total: dict[str, float] = {}
    for phase in (method.main, *method.others):
        if phase.backwards:
            found = model_flops(
                phase.workload, samples * phase.sequences * phase.workload.context * phase.forwards
            )
        else:
            work = phase.work * samples
            found = {"products": work.products, "attention": work.attention, "head": work.head}
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + value
    return total


def utilisation(outcome: Outcome, flops: dict[str, float]) -> tuple[Quantity, str]:
    """(share of the peak, formula in words) of the time that trains."""
    case, training = outcome.case, outcome.training
    halved = case.workload.square > 1 or case.workload.needed < 1
    causal = (
        "causal half" if halved else "full attention" if case.workload.forward.attention else "no attention"
    )
    peak, named = _peak(outcome)
    formula = f"MFU = FLOP ({causal}, nothing recomputed) / (training time × devices × {named})"
    if peak is None:
        return Quantity.unknown("1", f"no {case.precision} peak is known for {case.device.name}"), formula
    if training.value is None or training.low is None or training.high is None:
        return Quantity.unknown("1", training.source), formula
    best = sum(flops.values()) / (case.question.count * peak)
    share = Quantity(
        value=best / training.value, low=best / training.high, high=best / training.low, unit="1", basis="modelled",
        source=training.source,
    )  # fmt: skip
    return share, formula


def _peak(outcome: Outcome) -> tuple[float | None, str]:
    """(FLOP/s of one device, what it is): dense, of the table, or the best that was measured here."""
    case = outcome.case
    if case.device.hardware is not None:
        peak = case.device.hardware.peak(case.precision)
        return (
            peak,
            f"{peak / 1e12:g} TFLOP/s dense {case.precision} peak"
            if peak
            else f"dense {case.precision} peak",
        )
    assert case.device.profile is not None
    dtype = "float32" if case.precision == "fp32" else "bfloat16"
    rates = [point.flops_per_s for point in case.device.profile.matmul if point.dtype == dtype]
    best = max(rates, default=None)
    return (
        best,
        f"{best / 1e9:.0f} GFLOP/s, the best {dtype} product measured here" if best else f"{dtype} peak",
    )
