"""The pictures of `arriero estimate --pictures`."""

from __future__ import annotations

import numpy as np

from arriero.cost.workload import Workload
from arriero.planning.estimate.outcome import Case, Outcome
from arriero.planning.estimate.sheet import Fit
from arriero.planning.pictures.memory_bar import RankMemory, memory_picture
from arriero.planning.pictures.of_model import Reached, hardware_roof, operations_of, profile_roof
from arriero.planning.pictures.picture import Picture
from arriero.planning.pictures.roofline import roofline_picture
from arriero.planning.pictures.waterfall import Term, waterfall_picture


def training_pictures(outcome: Outcome) -> list[Picture]:
    """Memory, a step's time, the phases where there are several, and the roofline."""
    case = outcome.case
    found = [fit_picture(outcome.fit, case.model.name), _step(outcome)]
    if outcome.phases:
        phases = [Term(part.name, part.seconds) for part in outcome.phases]
        total = Term("the run", sum(part.seconds for part in outcome.phases))
        found.append(
            waterfall_picture(phases, total=total, title="Where the time of the run goes", name="phases")
        )
    return [*found, _roofline(outcome)]


def fit_picture(fit: Fit, model: str) -> Picture:
    """Memory of the fullest device against its capacity."""
    parts = {
        name: kind.value for name, kind in fit.kinds.items() if name != "margin" and kind.value is not None
    }
    margin = max(0.0, (fit.total.high or 0.0) - sum(parts.values()))
    rank = RankMemory("fullest device", parts, margin)
    return memory_picture([rank], fit.capacity.value, title=f"Memory: {model}")


def _step(outcome: Outcome) -> Picture:
    whole, run = outcome.step_seconds, outcome.training
    low = high = None
    if run.value and run.low is not None and run.high is not None:
        low, high = whole * run.low / run.value, whole * run.high / run.value
    terms = [Term(part.name, part.seconds) for part in outcome.step] if run.known else []
    return waterfall_picture(terms, total=Term("a step", whole, low, high))


def _roofline(outcome: Outcome) -> Picture:
    case, title = outcome.case, f"Roofline: {outcome.case.model.name}"
    hardware, profile = case.device.hardware, case.device.profile
    precision = case.precision
    if hardware is not None:
        roof = hardware_roof(hardware, precision)
    else:
        roof = profile_roof(profile, precision) if profile is not None else None
    if roof is None:
        return roofline_picture([], [], title=title)
    layout = outcome.layout
    work = operations_of(
        case.workload, roof, precision, micro_batch=int(layout.micro_batch), tensor=int(np.max(layout.cut.tensor)),
        reached=_reached(case, outcome),
    )  # fmt: skip
    return roofline_picture([roof], work, title=title)


def _reached(case: Case, outcome: Outcome) -> Reached:
    """FLOP over seconds of a step's products and attention, on one device; for methods of one model alone."""
    seconds = {part.name: part.seconds for part in outcome.step}
    layout, workload = outcome.layout, case.workload
    if case.method.others or not outcome.training.known:
        return Reached()
    shares = layout.sequences / int(np.max(layout.cut.devices))
    work = _trained(workload, layout.recompute)

    def rate(name: str) -> float | None:
        return float(work[name] * shares / seconds[name]) if seconds.get(name) else None

    return Reached(rate("products"), rate("attention"))


def _trained(workload: Workload, recompute: str) -> dict[str, float]:
    """FLOP of one sequence, forward, backward and what is worked out again."""
    work = workload.forward + workload.backward + workload.recomputed(recompute)  # type: ignore[arg-type]
    return {"products": work.products, "attention": work.attention}
