"""What a training run will take: its real step traced on fake tensors, priced with the device profile."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.training.batches import SampleOrder, micro_batches
from arriero.training.duration import Interval
from arriero.training.evaluation import evaluation_indices
from arriero.training.loop import micro_batch_size, run_length
from arriero.training.objectives.base import Objective, Shape
from arriero.training.probe import CHECKPOINT_RATE, step_ratio
from arriero.training.settings import TrainSettings
from arriero.training.traced import Figures, Work, evaluation_figures, step_figures

MODEL_ERROR = 0.15
"""Half-width of the band that the priced trace itself deserves, over the probe's spread (see tests and docs)."""
START_SECONDS = 1.5
"""Reading the inputs, tracing for the FLOP count, and the first step, which prepares kernels and first touches its
memory; measured on two cores."""
HELD_SHARE, HELD_BYTES, MEMORY_ERROR = 0.30, 100 * 2**20, 0.2
"""What the process holds beside itself and the live tensors: blocks that the allocator cannot join (a share of the
live bytes), and the kernels' own buffers (at most so many bytes). From the resident memory of runs of 0.2 to 25
million parameters in both precisions; see :func:`resident_bytes`."""


@dataclass(frozen=True)
class Load:
    """How much of what a run does.

    Attributes:
        steps: optimizer steps.
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
        typical_steps: how many steps, spread evenly over the run, stand for all of them.
        extra: micro-batches without gradients that are run once.
    """
    steps, samples = run_length(settings, objective)
    micro = micro_batch_size(settings, objective.tokens_per_sample())
    order = SampleOrder(len(objective), seed)
    chosen = sorted({i * steps // typical_steps for i in range(typical_steps)})
    typical = []
    for step in chosen:
        start = step * settings.batch_size
        indices = order.take(start, min(start + settings.batch_size, samples))
        typical.append(
            [objective.batch(part).shape for part in micro_batches(indices, micro, objective.length)]
        )
    evaluation: list[Shape] = []
    if heldout is not None and len(heldout):
        evaluation = pass_shapes(settings, heldout, evaluation_indices(heldout, settings.eval_samples))
    evaluations = 2 + ((steps - 1) // settings.eval_every if settings.eval_every else 0)
    return Load(steps, typical, evaluation, evaluations if evaluation else 0, extra)


def pass_shapes(settings: TrainSettings, objective: Objective, indices: Sequence[int]) -> list[Shape]:
    """Micro-batches of one pass over these samples without gradients."""
    micro = micro_batch_size(settings, objective.tokens_per_sample())
    return [objective.batch(part).shape for part in micro_batches(indices, micro, objective.length)]


def plan_training(work: Work, load: Load, device: DeviceProfile) -> Estimate:
    """Seconds, peak memory and FLOPs of a run.

    Seconds: the trace's price times the ratio that the probe measured on a real step; checkpoints at the measured
    speed of the writer. Memory: the process, and the most bytes live in the step. FLOPs: the trace's.
    """
    prices = _Prices(work, load, device)
    compute = prices.compute_seconds
    ratio = step_ratio(device, "bfloat16" if work.precision == "bf16" else "float32")
    if ratio is None:
        timed = Quantity.band(compute, 1.0, "s", "modelled", "traced step; no real step was measured here")
    else:
        spread = (1 + ratio.spread) * (1 + MODEL_ERROR) - 1
        source = (
            f"traced step x {ratio.per_s:.2f}, the ratio of a real step to its priced trace on this machine"
        )
        timed = Quantity.band(compute * ratio.per_s, spread, "s", "modelled", source)
    written = _checkpoint_seconds(work.settings, prices.state_bytes, timed.value or 0.0, load.steps, device)
    others = START_SECONDS + written
    seconds = Quantity(
        value=(timed.value or 0) + others, low=(timed.low or 0) + others / 2, high=(timed.high or 0) + 2 * others,
        unit="s", basis="modelled", source=timed.source,
    )  # fmt: skip
    memory = resident_bytes(device, prices.peak_bytes)
    return Estimate(
        seconds=seconds,
        peak_memory=Quantity.band(
            memory, MEMORY_ERROR, "B", "modelled", "process, and live tensors of the traced step"
        ),
        flops=Quantity.exact(prices.flops, "FLOP", "modelled", "counted in the traced step"),
    )


def resident_bytes(device: DeviceProfile, live_bytes: float) -> float:
    """Peak resident memory of a process with ``live_bytes`` of tensors alive at the worst moment."""
    return device.process_bytes + (1 + HELD_SHARE) * live_bytes + min(HELD_BYTES, live_bytes)


class _Prices:
    """Sums over the whole run, before the ratio of real to priced."""

    def __init__(self, work: Work, load: Load, device: DeviceProfile) -> None:
        shapes = [shape for step in load.typical for shape in step]
        widest = max(shapes, key=lambda shape: (shape.rows * shape.length, shape.scored))

        @cache
        def step(shape: Shape, copies: int = 1) -> Figures:
            return step_figures(work, [shape] * copies, device)

        alone, pair = step(widest), step(widest, 2)
        update = alone.along(pair.along(alone, -1.0), -1.0)  # clipping and the optimizer's step
        self.peak_bytes = pair.peak_bytes if any(len(step) > 1 for step in load.typical) else alone.peak_bytes
        self.state_bytes = alone.state_bytes
        every = _total(shapes, lambda shape: step(shape).along(update, -1.0))
        once = [*load.extra, *(shape for shape in load.evaluation for _ in range(load.evaluations))]
        passes = _total(once, lambda shape: evaluation_figures(work, shape, device))
        share = load.steps / len(load.typical)
        self.compute_seconds = share * every.seconds + load.steps * update.seconds + passes.seconds
        self.flops = share * every.flops + load.steps * update.flops + passes.flops


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
    """Seconds of writing checkpoints and, at the end, the model; 0 where the writer's speed was not measured."""
    rate = device.rate(CHECKPOINT_RATE)
    if rate is None:
        return 0.0
    every = Interval.parse(settings.checkpoint_every)
    count = 1 + int((steps if every.unit == "steps" else seconds) // every.amount)
    weights = 1 / 3  # the state is weights and two moments; the model's file is the weights alone
    return (count + weights) * state_bytes / rate.per_s
