"""What a training run will take: its real step traced on fake tensors, priced with the device profile."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from arriero.cost import Estimate, Quantity
from arriero.cost.allocator import give_tensors_a_range
from arriero.cost.device import DeviceProfile
from arriero.training.budget import run_course
from arriero.training.duration import Duration, Interval, Warmup
from arriero.training.evaluation import evaluation_indices
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.base import Objective, Shape
from arriero.training.parallel.plan import divided, gathered, planned_layout, with_failures
from arriero.training.precision import choose_arithmetic
from arriero.training.probe import CHECKPOINT_BLOCKED_RATE, CHECKPOINT_RATE, step_ratio
from arriero.training.settings import TrainSettings
from arriero.training.start import start_seconds
from arriero.training.traced import Figures, Work, evaluation_figures, step_figures
from arriero.training.trial import note, ratio_of, trial_key

MODEL_ERROR = 0.15
"""Half-width of the band that the priced trace itself deserves, over the probe's spread (see tests and docs)."""
RANGE_SHARE, MEMORY_ERROR = 0.05, 0.2
"""What the process holds beside itself and the live tensors, as a share of these, where they have a range of their own:
blocks that are too short for the next tensor, and the kernels' own buffers. From the resident memory of runs of 1 to 50
million parameters in both precisions (benchmarks/cost.py, benchmarks/tensor_memory.py); see :func:`resident_bytes`."""
HEAP_SHARE, HEAP_BYTES = 0.12, 80 * 2**20
"""The same where tensors are in the C library's heap: the share, and half as much as the live bytes, at most so many."""

GROWING_STEPS = 64
"""Steps that stand for all of a run whose batch or rows grow."""


@dataclass(frozen=True)
class Load:
    """How much of what a run does.

    Attributes:
        steps: optimizer steps; 0 where the run has a budget of seconds, until the plan has priced a step.
        typical: micro-batches of some steps that stand for all of them.
        evaluation: micro-batches of one held-out evaluation.
        evaluations: how often it is done.
        extra: micro-batches without gradients that are run once (DPO's reference).
    """

    steps: int
    typical: Sequence[Sequence[Shape]]
    evaluation: Sequence[Shape] = ()
    evaluations: int = 0
    extra: Sequence[Shape] = ()


def run_load(
    settings: TrainSettings,
    objective: Objective,
    heldout: Objective | None,
    seed: int,
    *,
    typical_steps: int = 16,
    extra: Sequence[Shape] = (),
) -> Load:
    """What a run over these samples does, batched by the very code that will batch it.

    Args:
        typical_steps: how many steps, spread evenly over the run, stand for all of them; more where the batch or the
            rows grow.
        extra: micro-batches without gradients that are run once.
    """
    timed = Duration.parse(settings.duration).timed
    epoch = settings.model_copy(update={"duration": "1 epochs"})
    course = run_course(epoch if timed else settings, objective)
    steps, samples = course.steps, course.samples
    if Warmup.parse(settings.batch_warmup).amount or objective.grows:
        typical_steps = max(typical_steps, GROWING_STEPS)
    micro = micro_batch_size(settings, objective.tokens_per_sample())
    order = objective.order(seed)
    chosen = sorted({i * steps // typical_steps for i in range(typical_steps)})
    typical = []
    for step in chosen:
        indices = order.take(course.sizes.position(step), min(course.sizes.position(step + 1), samples))
        batches = (objective.batch(part) for part in objective.parts(indices, micro))
        typical.append([objective.shaped(batch, step / steps).shape for batch in batches])
    evaluation: list[Shape] = []
    if heldout is not None and len(heldout):
        evaluation = pass_shapes(settings, heldout, evaluation_indices(heldout, settings.eval_samples))
    load = Load(0, typical, evaluation, 0, extra)
    return load if timed else _of_length(load, settings, steps)


def _of_length(load: Load, settings: TrainSettings, steps: int) -> Load:
    """The load of so many steps, and of the evaluations that fall between them."""
    between = (steps - 1) // settings.eval_every if settings.eval_every else 0
    between += min(steps, settings.eval_points) - 1 if settings.eval_points else 0
    return replace(load, steps=steps, evaluations=2 + min(steps - 1, between) if load.evaluation else 0)


def pass_shapes(settings: TrainSettings, objective: Objective, indices: Sequence[int]) -> list[Shape]:
    """Micro-batches of one pass over these samples without gradients."""
    micro = micro_batch_size(settings, objective.tokens_per_sample())
    return [objective.batch(part).shape for part in objective.parts(indices, micro)]


@dataclass(frozen=True)
class Forecast:
    """What a run will take, and its optimizer steps (with a budget of seconds: as many as are likely to fit)."""

    estimate: Estimate
    steps: int
    notes: list[str] = field(default_factory=list)


def plan_training(work: Work, load: Load, device: DeviceProfile) -> Estimate:
    """Seconds, peak memory and FLOPs of a run; see :func:`forecast`."""
    return forecast(work, load, device).estimate


def forecast(work: Work, load: Load, device: DeviceProfile) -> Forecast:
    """Seconds, peak memory, FLOPs and steps of a run.

    Seconds: the trace's price times the ratio that the probe measured on a real step; checkpoints at the measured
    speed of the writer. Memory: the process, and the most bytes live in the step. FLOPs: the trace's. With a budget of
    seconds the steps follow from the price of one, and the training's seconds are the budget (over the threads, for
    seconds of the processor: they all count while a step runs). On several processes: of one of them.

    Raises:
        ArrieroError: the processes' layout does not fit what is trained.
    """
    layout = planned_layout(work.config, work.objective, work.settings)
    prices = _Prices(work, load, device)
    duration = Duration.parse(work.settings.duration)
    if duration.timed:
        found = _timed(work, load, device, prices, duration)
    else:
        found = _counted(work, load, device, prices)
    whole = gathered(work.config, work.settings, layout)
    estimate = divided(
        found.estimate, layout, state_bytes=prices.state_bytes, peak_bytes=prices.peak_bytes,
        device_bytes=device.process_bytes, optimizer=work.settings.optimizer, gathered_bytes=whole.held,
    )  # fmt: skip
    estimate, notes = with_failures(estimate, layout, device)
    if whole.sent:
        notes.append(
            f"{work.settings.optimizer} needs whole matrices, which this layout cuts: each process gets "
            f"{whole.sent / 2**20:,.1f} MiB of them at every update"
        )
    return replace(found, estimate=estimate, notes=notes)


def _timed(work: Work, load: Load, device: DeviceProfile, prices: _Prices, duration: Duration) -> Forecast:
    threads = choose_arithmetic(work.settings, device).threads if duration.unit == "cpu-seconds" else 1
    budget = duration.amount / threads
    step = _timed_compute(prices.step.seconds, prices, work, device)
    steps = max(1, math.ceil(budget / max(1e-9, step.value or 0.0)))
    free = (
        prices.evaluation.seconds * _of_length(load, work.settings, steps).evaluations + prices.extra.seconds
    )
    found = _counted(work, _of_length(load, work.settings, steps), device, prices)
    beside = _timed_compute(free, prices, work, device)
    written = _checkpoint_seconds(work.settings, prices.state_bytes, budget, steps, device)
    others = _start(prices, work, device) + written + (beside.value or 0.0)
    seconds = Quantity(
        value=budget + others, low=budget + others / 2, high=duration.amount + 2 * others + (step.value or 0.0),
        unit="s", basis="modelled", source=f"the budget of {duration}, and what is not counted against it",
    )  # fmt: skip
    spread = max((step.high or 0.0) / max(1e-9, step.value or 0.0) - 1, MODEL_ERROR)
    flops = Quantity.band(
        found.estimate.flops.value or 0.0, spread, "FLOP", "modelled", f"about {steps:,} steps in {duration}"
    )
    return Forecast(found.estimate.model_copy(update={"seconds": seconds, "flops": flops}), steps)


def _timed_compute(compute: float, prices: _Prices, work: Work, device: DeviceProfile) -> Quantity:
    """Seconds of computing whose traced price is ``compute``."""
    threads = choose_arithmetic(work.settings, device).threads
    note(work, prices.usual, threads)
    tried = ratio_of(device, work, prices.usual, threads)
    if tried is not None:
        source = f"traced step x {tried.per_s:.2f}, measured on real steps of this model (calibrated)"
        return Quantity.band(compute * tried.per_s, tried.spread, "s", "modelled", source)
    ratio = step_ratio(device, "float32" if work.precision == "fp32" else "bfloat16")
    if ratio is None:
        return Quantity.band(compute, 1.0, "s", "modelled", "traced step; no real step was measured here")
    spread = (1 + ratio.spread) * (1 + MODEL_ERROR) - 1
    source = f"traced step x {ratio.per_s:.2f}, the ratio of a real step to its priced trace on this machine"
    return Quantity.band(compute * ratio.per_s, spread, "s", "modelled", source)


def _counted(work: Work, load: Load, device: DeviceProfile, prices: _Prices) -> Forecast:
    total = prices.total(load)
    timed = _timed_compute(total.seconds, prices, work, device)
    written = _checkpoint_seconds(work.settings, prices.state_bytes, timed.value or 0.0, load.steps, device)
    others = _start(prices, work, device) + written
    seconds = Quantity(
        value=(timed.value or 0) + others, low=(timed.low or 0) + others / 2, high=(timed.high or 0) + 2 * others,
        unit="s", basis="modelled", source=timed.source,
    )  # fmt: skip
    memory = resident_bytes(device, prices.peak_bytes)
    estimate = Estimate(
        seconds=seconds,
        peak_memory=Quantity.band(
            memory, MEMORY_ERROR, "B", "modelled", "process, and live tensors of the traced step"
        ),
        flops=Quantity.exact(total.flops, "FLOP", "modelled", "counted in the traced step"),
    )
    return Forecast(estimate, load.steps)


def _start(prices: _Prices, work: Work, device: DeviceProfile) -> float:
    threads = choose_arithmetic(work.settings, device).threads
    return start_seconds(device, trial_key(work, prices.usual, threads))


def resident_bytes(device: DeviceProfile, live_bytes: float) -> float:
    """Peak resident memory of a process with ``live_bytes`` of tensors alive at the worst moment."""
    if give_tensors_a_range():
        return device.process_bytes + (1 + RANGE_SHARE) * live_bytes
    return device.process_bytes + (1 + HEAP_SHARE) * live_bytes + min(HEAP_BYTES, live_bytes / 2)


class _Prices:
    """A step, an evaluation and what is done once, before the ratio of real to priced."""

    def __init__(self, work: Work, load: Load, device: DeviceProfile) -> None:
        shapes = [shape for step in load.typical for shape in step]
        widest = max(shapes, key=lambda shape: (shape.rows * shape.length, shape.scored, shape.length))

        @cache
        def step(shape: Shape, copies: int = 1) -> Figures:
            return step_figures(work, [shape] * copies, device)

        alone, pair = step(widest), step(widest, 2)
        update = alone.along(pair.along(alone, -1.0), -1.0)  # clipping and the optimizer's step
        self.peak_bytes = pair.peak_bytes if any(len(step) > 1 for step in load.typical) else alone.peak_bytes
        self.state_bytes = alone.state_bytes
        self.usual = sorted(load.typical, key=_area)[len(load.typical) // 2]
        every = _total(shapes, lambda shape: step(shape).along(update, -1.0))
        self.step = update.along(every, 1 / len(load.typical))

        @cache
        def one_pass(shape: Shape) -> Figures:
            return evaluation_figures(work, shape, device)

        self.evaluation, self.extra = _total(load.evaluation, one_pass), _total(load.extra, one_pass)

    def total(self, load: Load) -> Figures:
        """All of a run's figures."""
        steps = self.extra.along(self.step, load.steps)
        return steps.along(self.evaluation, load.evaluations)


def _area(step: Sequence[Shape]) -> int:
    return sum(shape.rows * shape.length for shape in step)


def _total(shapes: Sequence[Shape], measure: Callable[[Shape], Figures]) -> Figures:
    """Sum of ``measure`` over the shapes, with at most three of their lengths measured.

    Between the measured lengths figures follow straight lines; they are in proportion to the rows. Shapes that
    are all alike, as in pre-training, are measured as they are.
    """
    total = Figures(0.0, 0.0, 0.0, 0.0)
    if not shapes:
        return total
    lengths = sorted(shape.length for shape in shapes)
    nodes = sorted({lengths[0], lengths[len(lengths) // 2], lengths[-1]})
    rows = max(shape.rows for shape in shapes)
    density = sum(shape.scored for shape in shapes) / sum(shape.rows * shape.length for shape in shapes)
    measured = [measure(Shape(rows, n, round(rows * n * density), shapes[0].masked)) for n in nodes]
    for shape in shapes:
        total = total.along(_between(nodes, measured, shape.length), shape.rows / rows)
    return total


def _between(nodes: list[int], measured: list[Figures], length: int) -> Figures:
    after = bisect_left(nodes, length)
    if nodes[after] == length:
        return measured[after]
    part = (length - nodes[after - 1]) / (nodes[after] - nodes[after - 1])
    return measured[after - 1].along(measured[after].along(measured[after - 1], -1.0), part)


def _checkpoint_seconds(
    settings: TrainSettings, state_bytes: float, seconds: float, steps: int, device: DeviceProfile
) -> float:  # fmt: skip
    """Seconds that checkpoints and, at the end, the model cost; 0 where the writer's speed was not measured.

    A checkpoint in the background costs the time until training may go on, and then a share of one core.
    """
    rate = device.rate(CHECKPOINT_RATE)
    if rate is None:
        return 0.0
    every = Interval.parse(settings.checkpoint_every)
    count = int((steps if every.unit == "steps" else seconds) // every.amount)
    whole = state_bytes / rate.per_s
    blocked_rate = device.rate(CHECKPOINT_BLOCKED_RATE) if settings.async_checkpoints else None
    each = whole
    if blocked_rate is not None:
        blocked = min(whole, state_bytes / blocked_rate.per_s)
        each = blocked + (whole - blocked) / choose_arithmetic(settings, device).threads
    weights = 1 / 3  # the state is weights and two moments; the model's file is the weights alone
    return count * each + (1 + weights) * whole  # the last one is waited for
