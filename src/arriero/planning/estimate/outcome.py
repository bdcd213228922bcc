"""A training run worked out from the shape of a model and the name of a device: layout, memory, time, bill."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from arriero.cost.cluster_plan import effective_time, wall_time
from arriero.cost.cut import Cut
from arriero.cost.memory import MemoryByKind, device_memory
from arriero.cost.quantity import Quantity
from arriero.cost.tariffs import Tariffs
from arriero.cost.time import Coefficients, TimeTerms, step_terms
from arriero.cost.time.tiers import banded
from arriero.cost.workload import Recompute, Workload
from arriero.errors import ArrieroError
from arriero.planning.counts.phases import Phase
from arriero.planning.estimate.bill import Bill, bill
from arriero.planning.estimate.coefficients import coefficients_of, serving_coefficients
from arriero.planning.estimate.device_source import Device, find_device
from arriero.planning.estimate.fit import fit_of, measured_fit, runtime_bytes
from arriero.planning.estimate.layout_choice import (
    Layout,
    Layouts,
    Wish,
    choose_row,
    layouts,
    row_of,
    usual_batch_tokens,
)
from arriero.planning.estimate.layout_text import parse_layout
from arriero.planning.estimate.method import Method, method_of
from arriero.planning.estimate.method_memory import beside_bytes, with_others
from arriero.planning.estimate.method_time import phase_terms
from arriero.planning.estimate.model_source import ModelSource, find_model
from arriero.planning.estimate.question import (
    FINE_TUNING_BATCH,
    Precision,
    Question,
    check_tokens,
    context_of,
    precision_of,
    tokens_of,
    traced_dtype,
)
from arriero.planning.estimate.sheet import Fit, Part
from arriero.planning.memory.sifted import opened, sifted
from arriero.training.micro_batch import TOKENS_AT_ONCE
from arriero.training.settings import TrainSettings

_MODES: tuple[Recompute, ...] = ("none", "selective", "full")
_TRIED = 6
"""Groups of processes that are traced at most for one kind of recomputation before the best layout is taken as it is."""
_IDLE = 0.4
"""Share of a step that devices wait for one another from which on layouts that recompute are looked at too."""


@dataclass(frozen=True)
class Case:
    """A question with everything filled in but the layout."""

    question: Question
    model: ModelSource
    device: Device
    tariffs: Tariffs
    precision: Precision
    method: Method
    coefficients: Coefficients
    serving: Coefficients
    tokens: float
    batch: int

    @property
    def workload(self) -> Workload:
        """Of one sequence through the model in question."""
        return self.method.workload

    @property
    def context(self) -> int:
        return self.workload.context


@dataclass(frozen=True)
class Outcome:
    """A case under one layout.

    Attributes:
        training: seconds that train. wall: with failures and restarts, where a rate is known.
        effective: the part of the wall clock that trains.
    """

    case: Case
    layout: Layout
    fit: Fit
    step: tuple[Part, ...]
    steps: int
    training: Quantity
    effective: Quantity
    wall: Quantity
    bill: Bill
    phases: tuple[Part, ...] = ()

    @property
    def step_seconds(self) -> float:
        return sum(part.seconds for part in self.step)


def case_of(question: Question) -> Case:
    """Find model and device, trace the workload.

    Raises:
        ArrieroError: no such model, device or region; or settings that do not fit one another.
    """
    check_tokens(question)
    if question.parallel is not None:
        parse_layout(question.parallel, question.count)  # refused before anything is traced
    model = find_model(question.model)
    tariffs = Tariffs.load({**question.tariffs, "co2": True, "water": question.water})
    device = find_device(question.hardware, tariffs)
    if device.hardware is None and question.count > 1:
        raise ArrieroError(f"--count {question.count} needs --hardware: this machine is one device")
    pays = device.profile is not None and device.profile.bf16_pays
    precision = precision_of(question.precision, device.hardware, pays)
    method = method_of(question, model, context_of(question.context, model), traced_dtype(precision))
    workload = method.workload
    tokens = tokens_of(question, workload)
    return Case(
        question, model, device, tariffs, precision, method, coefficients_of(device, precision, workload),
        serving_coefficients(device, precision, workload), tokens, _batch(question, device, workload, tokens),
    )  # fmt: skip


def _batch(question: Question, device: Device, workload: Workload, tokens: float) -> int:
    """Sequences of a step: as asked; as recipes have it on this machine; usual for fine-tuning; for the model's size."""
    if question.batch_tokens is None and device.hardware is None:
        return TrainSettings().batch_size
    if question.batch_tokens is None and not question.from_scratch:
        return max(1, min(FINE_TUNING_BATCH, round(tokens / workload.context)))
    asked = question.batch_tokens or min(usual_batch_tokens(workload.parameters.total), tokens)
    return max(1, round(asked / workload.context))


def outcome_of(case: Case) -> Outcome:
    """The layout that was asked for, or the fastest that fits, and what the run takes under it."""
    if case.device.hardware is None and case.method.single:
        return _here(case)
    layout = _layout(case)
    by_phase = {
        phase.name: _phase_terms(case, phase, layout) for phase in (case.method.main, *case.method.others)
    }
    terms: dict[str, float] = {}
    for part in by_phase.values():
        for name, value in part.items():
            terms[name] = terms.get(name, 0.0) + value
    steps = math.ceil(case.tokens / (layout.sequences * case.context))
    training = banded(steps * sum(terms.values()), case.coefficients)
    fit = fit_of(with_others(_memory(case, layout), case.method, layout), case.device, case.question.count)
    phases = (
        {name: steps * sum(part.values()) for name, part in by_phase.items()} if case.method.others else {}
    )
    return _priced(case, layout, fit, terms, steps, training, phases)


def _layout(case: Case) -> Layout:
    """The fastest layout that fits with the least recomputed: each mode is traced only where the one before does not fit,
    or leaves devices waiting for one another, which a layout with a smaller footprint may do less."""
    wish, capacity = _wish(case), case.device.capacity.value
    best: tuple[float, Layout] | None = None
    for mode in _MODES if wish.recompute is None else (wish.recompute,):
        found = layouts(replace(wish, recompute=mode))
        terms = _terms(case, found)
        seconds = np.broadcast_to(terms.total, found.micro_batch.shape)
        row, fits = _fastest(case, found, seconds, capacity)
        pace = float(seconds[row] / found.sequences[row]) if fits else math.inf
        if best is None or pace < best[0] or best[0] == math.inf:
            best = (pace, row_of(found, row))
        waits = np.broadcast_to(np.asarray(terms.bubble) + np.asarray(terms.communication), seconds.shape)
        idle = float(waits[row] / seconds[row])
        if fits and not idle > _IDLE:
            break
    assert best is not None
    return best[1]


def _fastest(case: Case, found: Layouts, seconds: np.ndarray, capacity: float | None) -> tuple[int, bool]:
    """(row of the fastest layout that fits, whether one does).

    Layouts are sifted by what they leave of one device's trace; one that would be chosen is then held to the traces of its
    own group and stage, with all that have the same.
    """
    beside = runtime_bytes(case.device, case.question.count)[2] + np.asarray(
        beside_bytes(case.method, found.cut)
    )
    workload = sifted(case.workload)
    for _ in range(_TRIED):
        peak = np.asarray(_memory_of(workload, found).high) + beside
        row = choose_row(found, seconds, peak, capacity)
        fits = capacity is None or bool(peak[row] <= capacity)
        one = row_of(found, row)
        if not fits or not opened(workload, one.cut, one.micro_batch, one.recompute, one.accumulation):
            break
    return row, fits


def _phase_terms(case: Case, phase: Phase, layout: Layout) -> dict[str, float]:
    return phase_terms(
        phase, case.method, layout, training=case.coefficients, serving=case.serving, node=case.device.node
    )


def _here(case: Case) -> Outcome:
    """On this machine: the real step traced and priced with its profile, as `arriero plan` does for a recipe."""
    from arriero.planning.estimate.machine_step import MachineRun, machine_estimate, machine_terms

    asked, profile = case.question, case.device.profile
    assert profile is not None
    if asked.parallel is not None or asked.zero is not None:
        raise ArrieroError("--parallel and --zero need --hardware: this machine is one device")
    if asked.weights not in (None, "fp32"):
        raise ArrieroError(
            f"--weights {asked.weights} needs --hardware: here the training stages hold weights in fp32"
        )
    rows = min(asked.micro_batch or max(1, TOKENS_AT_ONCE // case.context), case.batch)
    layout = Layout(Cut(), rows, math.ceil(case.batch / rows), asked.recompute or "none")
    steps = math.ceil(case.tokens / (layout.sequences * case.context))
    run = MachineRun(
        case.model.config, asked.objective or "auto", case.context, case.workload.scored, traced_dtype(case.precision), rows,
        layout.accumulation, steps, layout.recompute, asked.lora_rank, asked.optimizer,
    )  # fmt: skip
    found, terms = machine_estimate(run, profile), machine_terms(run, profile)
    step = (found.seconds.value or 0.0) / steps
    scale = step / sum(terms.values())
    fit = measured_fit(_memory(case, layout), case.device, found.peak_memory)
    return _priced(
        case, layout, fit, {name: scale * value for name, value in terms.items()}, steps, found.seconds
    )


def _memory(case: Case, found: Layout) -> MemoryByKind:
    """Of the device that needs most."""
    return _memory_of(case.workload, found)


def _memory_of(workload: Workload, found: Layouts | Layout) -> MemoryByKind:
    return device_memory(
        workload, found.cut, micro_batch=found.micro_batch, recompute=found.recompute,
        accumulation=found.accumulation,
    )  # fmt: skip


def _wish(case: Case) -> Wish:
    asked = case.question
    parallel = parse_layout(asked.parallel, asked.count) if asked.parallel is not None else None
    return Wish(
        case.workload.dimensions, case.context, asked.count, case.batch, case.device.node, parallel, asked.zero,
        asked.micro_batch, asked.recompute, cuttable=not asked.lora_rank,
    )  # fmt: skip


def _terms(case: Case, found: Layouts | Layout) -> TimeTerms:
    return step_terms(
        case.workload, found.cut, micro_batch=found.micro_batch, accumulation=found.accumulation,
        recompute=found.recompute, coefficients=case.coefficients, devices_per_node=case.device.node,
    )  # fmt: skip


def _priced(
    case: Case, layout: Layout, fit: Fit, terms: dict[str, float], steps: int, training: Quantity,
    phases: dict[str, float] | None = None,
) -> Outcome:  # fmt: skip
    effective = _effective(case, training)
    wall = wall_time(training, effective) if effective.known else training
    priced = bill(wall, case.device.machine, case.question.count, case.tariffs)
    step = tuple(Part(name, seconds) for name, seconds in terms.items())
    parts = tuple(Part(name, seconds) for name, seconds in (phases or {}).items())
    return Outcome(case, layout, fit, step, steps, training, effective, wall, priced, parts)


def _effective(case: Case, training: Quantity) -> Quantity:
    """The part of the wall clock that trains; unknown where nobody knows how often such devices fail."""
    if case.device.failures is None:
        return Quantity.unknown("1", f"no failure rate is known for {case.device.name}")
    if training.value is None:
        return Quantity.unknown("1", training.source)
    return effective_time(case.question.count, training.value, gpu=case.device.failures)
