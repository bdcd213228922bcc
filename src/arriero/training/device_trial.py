"""Real steps of a model on the device that is to train it, at two depths: seconds, bytes and joules of the whole depth.

What a step takes is ``rest + blocks x one block``, so two shallow models tell of the deep one. Seconds and joules are
measured, and lie on that line. Bytes are those of the traced step of the whole model plus what the device's own kernels
were seen to add to the trace of the shallow ones, on a line as well: a trace on fake tensors knows neither a library's
workspaces nor what a compiler leaves out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from arriero.cost.trace import trace
from arriero.models.config import ModelConfig
from arriero.training.compiled import compiled_blocks
from arriero.training.objectives.base import Shape
from arriero.training.traced import Work, step_state, take_step

LEAST_STEPS = 3
_WARM_UP = 3
_STD = 0.02
Joules = Callable[[float], float | None]
"""Joules that the device has used by now, at a second of the clock; None where nobody can tell."""


@dataclass(frozen=True)
class Measured:
    """One step.

    Attributes:
        seconds: the median. spread: relative half-width of the middle half. steps: how many were timed.
        peak_bytes: most bytes of tensors. joules: of the device, where a counter can be read.
    """

    seconds: float
    spread: float
    steps: int
    peak_bytes: float
    joules: float | None


@dataclass(frozen=True)
class Predicted:
    """A step of the whole model, from ``trials`` by depth."""

    seconds: float
    spread: float
    peak_bytes: float
    joules: float | None
    trials: dict[int, Measured]


def trial_depths(layers: int) -> tuple[int, ...]:
    """An eighth and a third of the blocks; all of them where there are few."""
    low, high = max(1, layers // 8), max(3, layers // 3)
    return (low, high) if layers > high else (layers,)


def predict_step(
    work: Work, shapes: Sequence[Shape], device: str, *, budget_s: float = 8.0, joules: Joules | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Predicted:  # fmt: skip
    """What a step of ``work`` over micro-batches of these shapes will take on ``device``.

    Args:
        budget_s: wall seconds of timed steps over both depths; making the models and the first steps come on top.
    """
    layers = int(getattr(work.config, "n_layers", 1))
    depths = trial_depths(layers)
    found, beyond = {}, {}
    for depth in depths:
        config = at_depth(work.config, depth)
        share = budget_s / len(depths)
        found[depth] = measure_step(work, config, shapes, device, budget_s=share, joules=joules, clock=clock)
        beyond[depth] = found[depth].peak_bytes - traced_peak(work, config, shapes)
    energy = {depth: one.joules for depth, one in found.items()}
    known = {depth: used for depth, used in energy.items() if used is not None}
    return Predicted(
        seconds=rising({depth: one.seconds for depth, one in found.items()}, layers),
        spread=max(one.spread for one in found.values()),
        peak_bytes=traced_peak(work, work.config, shapes) + line(beyond, layers),
        joules=rising(known, layers) if len(known) == len(found) else None,
        trials=found,
    )


def at_depth(config: ModelConfig, depth: int) -> ModelConfig:
    """The same model with so many blocks."""
    same = getattr(config, "n_layers", depth) == depth
    return config if same else config.model_copy(update={"n_layers": depth})


def line(values: dict[int, float], at: int) -> float:
    """On the straight line through one or two points."""
    (low, first), *others = sorted(values.items())
    if not others:
        return first
    high, second = others[-1]
    return first + (second - first) * (at - low) / (high - low)


def rising(values: dict[int, float], at: int) -> float:
    """:func:`line` of what a deeper model never takes less of, whatever disturbed the measuring."""
    return max([line(values, at), *values.values()])


def traced_peak(work: Work, config: ModelConfig, shapes: Sequence[Shape]) -> float:
    """Most bytes alive in the traced step of a configuration, traced whole."""
    found = trace(lambda: step_state(work, config, list(shapes)), lambda state: take_step(work, state))
    return float(found.peak_bytes)


def measure_step(
    work: Work, config: ModelConfig, shapes: Sequence[Shape], device: str, *, budget_s: float, joules: Joules | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:  # fmt: skip
    """Take real steps until the budget is spent, three at least."""
    with real_steps(work, config, shapes, device) as step:
        for _ in range(_WARM_UP):
            step()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times: list[float] = []
        began, before = clock(), joules(clock()) if joules else None
        while clock() - began < budget_s or len(times) < LEAST_STEPS:
            started = clock()
            step()
            times.append(clock() - started)
        after = joules(clock()) if joules else None
        # one of many steps, so that the counter's own grain and the few steps' edges weigh little
        used = None if before is None or after is None else (after - before) / len(times)
        peak = float(torch.cuda.max_memory_allocated()) if device == "cuda" else 0.0
    if device != "cuda":
        peak = tracked_peak(work, config, shapes)
    quartiles = statistics.quantiles(times, n=4)
    middle = statistics.median(times)
    return Measured(middle, (quartiles[2] - quartiles[0]) / 2 / middle, len(times), peak, used)


@contextmanager
def real_steps(
    work: Work, config: ModelConfig, shapes: Sequence[Shape], device: str
) -> Iterator[Callable[[], None]]:
    """A function that takes one optimizer step of a model with weights drawn; it returns when the device is done."""
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # as `prepare.on_device` has it for a run
    state = drawn_state(work, config, shapes, device)

    def step() -> None:
        take_step(work, state)
        if device == "cuda":
            torch.cuda.synchronize()

    try:
        with compiled_blocks(state[0], work.settings.compile):
            yield step
    finally:
        state.clear()
        if device == "cuda":
            torch.cuda.empty_cache()


def drawn_state(work: Work, config: ModelConfig, shapes: Sequence[Shape], device: str) -> list[Any]:
    """Model, optimizer, average and batches on the device; weights normal, norms 1, biases 0, tokens at random."""
    with torch.device(device):
        state = step_state(work, config, list(shapes))
    generator = torch.Generator(device).manual_seed(0)
    draw_weights(state[0].train(), generator)
    for batch in state[3:]:
        for tensor in (batch.ids, batch.targets):
            tensor.random_(config.vocab_size, generator=generator)
    return state


def draw_weights(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Weights like those of a model, where the generator is: normal, norms 1, biases 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.normal_(std=_STD, generator=generator)
            else:
                p.fill_(0.0 if name.endswith("bias") else 1.0)


def tracked_peak(work: Work, config: ModelConfig, shapes: Sequence[Shape]) -> float:
    """Most bytes alive in a real step on the processor, by the tracker that the traces use."""

    def make() -> list[Any]:
        return drawn_state(work, config, shapes, "cpu")

    return float(trace(make, lambda state: take_step(work, state), fake=False).peak_bytes)
