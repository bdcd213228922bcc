"""Seconds of a step of a method, phase by phase: training, asking a frozen model, and writing answers."""

from __future__ import annotations

from dataclasses import replace

from arriero.cost.time import Coefficients, decode_seconds, prefill_seconds, step_terms
from arriero.cost.workload import Work, Workload
from arriero.planning.counts.phases import Phase
from arriero.planning.estimate.layout_choice import Layout
from arriero.planning.estimate.method import Method


def phase_terms(
    phase: Phase, method: Method, layout: Layout, *, training: Coefficients, serving: Coefficients, node: int
) -> dict[str, float]:
    """Seconds by term of one phase in one optimizer step; answers that are written are one term, ``generation``."""
    share = phase.sequences / method.main.sequences
    if phase.response:
        return {"generation": phase.forwards * _generation(phase, method, layout, serving)}
    workload = phase.workload if phase.backwards else asked_only(phase.workload)
    terms = step_terms(
        workload, layout.cut, micro_batch=layout.micro_batch, accumulation=layout.accumulation,
        recompute=layout.recompute if phase.backwards else "none", coefficients=training, devices_per_node=node,
    )  # fmt: skip
    times = share * phase.forwards
    return {name: float(value) * times for name, value in terms.named().items()}


def asked_only(workload: Workload) -> Workload:
    """The forward pass alone: nothing is trained."""
    return replace(
        workload, backward_block=Work(), backward_rest=Work(), recomputed_block={}, gradient_bytes=0.0, state_bytes=0.0,
        parameters=replace(workload.parameters, trained=0),
    )  # fmt: skip


def answers_at_once(phase: Phase, method: Method, layout: Layout) -> float:
    """Answers that one copy of the model writes in a step, all at once."""
    cut = layout.cut
    copies = int(cut.data) * int(cut.context) * int(cut.pipeline)
    return max(1.0, layout.sequences / method.main.sequences * phase.sequences / copies)


def _generation(phase: Phase, method: Method, layout: Layout, per: Coefficients) -> float:
    batch, tensor = answers_at_once(phase, method, layout), int(layout.cut.tensor)
    read = prefill_seconds(phase.workload, tokens=phase.prompt, batch=batch, coefficients=per, tensor=tensor)  # type: ignore[arg-type]
    token = decode_seconds(
        phase.workload, context=phase.prompt + phase.response / 2, batch=batch, coefficients=per, tensor=tensor  # type: ignore[arg-type]
    )  # fmt: skip
    return float(read) + phase.response * float(token)
