"""A training run on this machine: the forecast that `arriero plan` makes of a recipe, without the recipe.

The real step is traced on fake tensors and priced with the device profile (`training.plan`). Seconds, bytes and FLOPs
of a step are straight lines in its micro-batches, so one micro-batch and two tell them for any number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from arriero.cost.device import DeviceProfile
from arriero.cost.estimate import Estimate
from arriero.cost.quantity import Quantity
from arriero.cost.roofline import by_kind
from arriero.cost.trace import trace
from arriero.cost.workload import Dtype, Recompute
from arriero.models.config import ModelConfig
from arriero.planning.counts.depths import depths_of
from arriero.planning.counts.objectives import planned_objective, planned_shape, resolve_objective
from arriero.training.plan import Load, plan_training
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work, step_state, take_step
from arriero.tuning.lora import apply_lora

_TERMS = {
    "matmul": "products", "attention": "attention", "attention_backward": "attention", "other": "elementwise",
    "optimizer": "optimizer", "overhead": "host",
}  # fmt: skip
"""Kinds of operations of a trace, and the term of a step that each belongs to."""


@dataclass(frozen=True)
class MachineRun:
    """A run as this machine would do it.

    Attributes:
        steps: optimizer steps of ``accumulation`` micro-batches of ``rows`` sequences.
    """

    config: ModelConfig
    objective: str
    context: int
    scored: int
    precision: Dtype
    rows: int
    accumulation: int
    steps: int
    recompute: Recompute
    lora_rank: int
    optimizer: str

    def work(self) -> Work:
        """What is trained, in the terms of the training room."""
        config, objective = resolve_objective(self.config, self.objective)
        settings = TrainSettings.model_validate(
            {
                "batch_size": self.rows * self.accumulation, "micro_batch_size": self.rows,
                "activation_checkpointing": self.recompute, "optimizer": self.optimizer,
                "duration": f"{self.steps} steps", "precision": self.precision, "device": "cpu",
            }
        )  # fmt: skip
        rank = self.lora_rank
        adapt: Callable[[Any], object] = lambda model: (  # noqa: E731
            apply_lora(model, rank, 2.0 * rank, 0.0, ["all-linear"], 0) if rank else None
        )
        return Work(
            config, planned_objective(config, objective, self.context), settings, self.precision, adapt
        )

    def shape(self) -> Any:
        """Of one micro-batch."""
        _, objective = resolve_objective(self.config, self.objective)
        return planned_shape(objective, self.rows, self.context, self.scored, None, False)


def machine_estimate(run: MachineRun, profile: DeviceProfile) -> Estimate:
    """Seconds, peak resident memory and FLOPs of the whole run."""
    work, shape = run.work(), run.shape()
    one, two = (plan_training(work, Load(run.steps, [[shape] * count]), profile) for count in (1, 2))
    if run.accumulation == 1:
        return one
    return Estimate(
        seconds=_along(one.seconds, two.seconds, run.accumulation), peak_memory=two.peak_memory,
        flops=_along(one.flops, two.flops, run.accumulation),
    )  # fmt: skip


def _along(one: Quantity, two: Quantity, count: int) -> Quantity:
    """A figure of ``count`` micro-batches a step, from those of one and of two."""
    if (
        one.value is None
        or one.low is None
        or one.high is None
        or two.value is None
        or two.low is None
        or two.high is None
    ):
        return one
    low, value, high = (
        first + (count - 1) * max(0.0, second - first)
        for first, second in ((one.low, two.low), (one.value, two.value), (one.high, two.high))
    )
    return Quantity(value=value, low=low, high=high, unit=one.unit, basis=one.basis, source=one.source)


def machine_terms(run: MachineRun, profile: DeviceProfile) -> dict[str, float]:
    """Seconds of one micro-batch and an update by term, as the trace has them, not yet brought to a measured step."""
    work, shape, depths = run.work(), run.shape(), depths_of(run.config)
    base = _kinds(work, depths.base, shape, profile)
    found = dict(base)
    for kind in depths.kinds:
        more = _kinds(work, kind.more, shape, profile)
        for name in more:
            step = more[name] - base.get(name, 0.0)
            found[name] = found.get(name, 0.0) + step * (kind.layers - kind.shallow)
    return {name: found[name] for name in dict.fromkeys(_TERMS.values()) if name in found}


def _kinds(work: Work, config: ModelConfig, shape: Any, profile: DeviceProfile) -> dict[str, float]:
    traced = trace(lambda: step_state(work, config, [shape]), lambda state: take_step(work, state))
    found: dict[str, float] = {}
    for kind, seconds in by_kind(traced, profile).items():
        found[_TERMS[kind]] = found.get(_TERMS[kind], 0.0) + seconds
    return found
