"""Trials: a few real steps of the very model that a plan is about, before it is trained; of shallower ones where its are long.

Figures of a step are linear in the number of equal blocks, so two shallow models tell of the deep one: what `arriero
calibrate RECIPE` measures in seconds stands for a run of hours. What is drawn on beyond them is drawn from the noise too,
so they are as deep as the time allows. A trial's results are the ratio of a real step to its priced trace, and how long the
run takes until its steps are under way, kept in the device profile under a key of the whole work; a plan of the same work
uses them in place of those of the probe's model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from arriero.artifacts.hashing import sha256_json
from arriero.cost.device import DeviceProfile, Rate
from arriero.cost.procfs import steal_seconds, steal_share
from arriero.cost.steal import CalmClock, expected_slowdown
from arriero.training.objectives.base import Batch, Shape
from arriero.training.precision import choose_arithmetic
from arriero.training.start import counting_seconds, start_key, starts
from arriero.training.traced import Work, step_figures, step_state, take_step

DEPTHS = (1, 3)
"""Blocks of the models that are measured at least, where the model has more."""
SPREAD = 0.06
"""Least half-width of what a trial tells: a machine is not the same from one minute to the next."""
_LEAST_STEPS = 3
_wanted: ContextVar[list[Trial] | None] = ContextVar("arriero_trials", default=None)


@dataclass(frozen=True)
class Trial:
    """What is to be measured: a step of ``work`` over micro-batches of these shapes."""

    work: Work
    shapes: tuple[Shape, ...]
    threads: int

    @property
    def key(self) -> str:
        """Name of the trial's rate in a device profile: equal for equal work."""
        return trial_key(self.work, self.shapes, self.threads)


def trial_key(work: Work, shapes: Sequence[Shape], threads: int) -> str:
    """The name under which a trial of this work is kept."""
    settings = work.settings
    adapters = {
        name: value for name, value in settings.model_dump(mode="json").items() if name.startswith("lora_")
    }
    said = {
        "model": work.config.model_dump(mode="json"), "objective": type(work.objective).__name__, "adapters": adapters,
        "precision": work.precision, "optimizer": settings.optimizer, "ema": settings.ema_decay,
        "recompute": settings.activation_checkpointing, "compile": settings.compile, "threads": threads,
        "shapes": [vars(shape) for shape in shapes],
    }  # fmt: skip
    return f"trial.{sha256_json(said)[:16]}"


@contextmanager
def collecting() -> Iterator[list[Trial]]:
    """Plans that are made while the body runs put down here what a trial of them would measure."""
    found: list[Trial] = []
    token = _wanted.set(found)
    try:
        yield found
    finally:
        _wanted.reset(token)


def note(work: Work, shapes: Sequence[Shape], threads: int) -> None:
    """A plan prices this work; a collector, if there is one, hears of it once."""
    found = _wanted.get()
    trial = Trial(work, tuple(shapes), threads)
    if found is not None and trial.key not in {other.key for other in found}:
        found.append(trial)


def ratio_of(device: DeviceProfile, work: Work, shapes: Sequence[Shape], threads: int) -> Rate | None:
    """Seconds of a real step of this work over seconds of its priced trace; None where no trial was made."""
    return device.rate(trial_key(work, shapes, threads))


def measure(
    trial: Trial, device: DeviceProfile, *, budget_s: float = 8.0, clock: Callable[[], float] | None = None
) -> dict[str, Rate]:  # fmt: skip
    """Take real steps until the budget is spent, three at least; of two shallower models by turns where three of the whole
    would not go into it. The mean counts, not the median: a run has its slow moments too. Time that the host takes from a
    virtual machine meanwhile is left out, and added as it is to be expected in a run (``cost.steal``).

    What is trained on a GPU is measured there (``device_trial``).

    Args:
        device: the profile whose prices the ratio corrects.
        budget_s: seconds of steps; what comes before them in a run comes on top, and is measured too.
        clock: of seconds; None: one that goes slower while the host takes cores away.

    Returns:
        By their names in a device profile: the ratio, and (but for what is trained on a GPU) starts a second.
    """
    import torch

    from arriero.cost.allocator import keep_freed_memory, return_freed_memory

    if choose_arithmetic(trial.work.settings, device).device == "cuda":
        return {trial.key: _on_gpu(trial, device, budget_s, clock or time.perf_counter)}
    clock = clock or CalmClock()
    keep_freed_memory()
    before = torch.get_num_threads()
    priced = step_figures(trial.work, list(trial.shapes), device).seconds
    torch.set_num_threads(trial.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            counting = [counting_seconds(trial.work, trial.shapes[0], clock)]
            stolen = steal_seconds()
            tried = _tried(trial, _depths(trial, budget_s / priced), budget_s, clock)
            stolen = steal_seconds() - stolen
            # once more: the machine is as fast as this in one moment and not in another
            counting.append(counting_seconds(trial.work, trial.shapes[0], clock))
    finally:
        torch.set_num_threads(before)
        return_freed_memory()
    return _rates(trial, tried, fmean(counting), stolen, priced)


def _rates(
    trial: Trial, tried: dict[int, _Tried], counting: float, stolen: float, priced: float
) -> dict[str, Rate]:  # fmt: skip
    means = {depth: fmean(one.steps) for depth, one in tried.items()}
    spread = max(median(abs(t / means[depth] - 1) for t in one.steps) for depth, one in tried.items())
    calm_s = sum(one.before + sum(one.steps) for one in tried.values())
    slower, doubt = expected_slowdown(calm_s, stolen, steal_share(), trial.threads)
    before_steps = _at_depth(trial, {depth: one.before - means[depth] for depth, one in tried.items()})
    return {
        trial.key: Rate(
            per_s=slower * _at_depth(trial, means) / priced, spread=max(SPREAD, 2 * spread) + doubt, unit="x"
        ),
        start_key(trial.key): starts(slower * (counting + max(0.0, before_steps))),
    }


def _on_gpu(trial: Trial, device: DeviceProfile, budget_s: float, clock: Callable[[], float]) -> Rate:
    from arriero.training.device_trial import predict_step

    found = predict_step(trial.work, trial.shapes, "cuda", budget_s=budget_s, clock=clock)
    priced = step_figures(trial.work, list(trial.shapes), device).seconds
    return Rate(per_s=found.seconds / priced, spread=max(SPREAD, 2 * found.spread), unit="x")


def _depths(trial: Trial, steps: float) -> list[int]:
    """The whole model, or two depths: the deepest of which enough steps go into the time of so many of the whole model."""
    layers, (low, high) = _layers(trial), DEPTHS
    if layers <= high:
        return [layers]
    if trial.work.settings.compile:  # which takes longer the deeper the model is
        return [low, high]
    if steps >= _LEAST_STEPS:
        return [layers]
    half = layers // 2
    return [low, half if half > high and steps >= _LEAST_STEPS * (low + half) / layers else high]


def _layers(trial: Trial) -> int:
    return int(getattr(trial.work.config, "n_layers", 1))


@dataclass
class _Tried:
    """A model of one depth: seconds until its first step was done, and of each step after it."""

    state: list[Any]
    before: float
    steps: list[float] = field(default_factory=list)


def _tried(
    trial: Trial, depths: Sequence[int], budget_s: float, clock: Callable[[], float]
) -> dict[int, _Tried]:  # fmt: skip
    tried = {}
    for depth in depths:
        started = clock()
        state = _state(trial, depth)
        take_step(trial.work, state)
        tried[depth] = _Tried(state, clock() - started)
    until = clock() + budget_s
    while clock() < until or min(len(one.steps) for one in tried.values()) < _LEAST_STEPS:
        for one in tried.values():
            started = clock()
            take_step(trial.work, one.state)
            one.steps.append(clock() - started)
    return tried


def _state(trial: Trial, depth: int) -> list[Any]:
    """A model of that depth with weights drawn, its optimizer, and batches with random tokens."""
    config = trial.work.config
    if getattr(config, "n_layers", depth) != depth:
        config = config.model_copy(update={"n_layers": depth})
    state = step_state(trial.work, config, list(trial.shapes))
    model = state[0]
    model.init_weights(0)
    model.train()
    for batch in state[3:]:
        _fill(batch, config.vocab_size)
    return state


def _fill(batch: Batch, vocab_size: int) -> None:
    for tensor in (batch.ids, batch.targets):
        if tensor.numel():
            tensor.random_(vocab_size)


def _at_depth(trial: Trial, seconds: dict[int, float]) -> float:
    """On the straight line through the measured depths."""
    if len(seconds) == 1:
        return next(iter(seconds.values()))
    (low, first), (high, second) = seconds.items()
    return first + (second - first) * (_layers(trial) - low) / (high - low)
