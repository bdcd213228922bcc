"""What a plan says of a run on several processes: whether its layout fits, and what each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arriero.cost import Estimate, Quantity
from arriero.cost.cluster_plan import effective_time, wall_time
from arriero.cost.device import DeviceProfile
from arriero.training.objectives.base import Objective
from arriero.training.parallel.layout import Layout, check_layout, layout_of, planned_size
from arriero.training.parallel.world import world
from arriero.training.settings import TrainSettings

_SLOWER = 1.5
"""The most that processes which share one machine's cores are taken to lose by waiting for each other."""
_STATE_OF_WEIGHTS = {"adamw": 3.0, "muon": 2.0, "adafactor": 1.0}
"""Bytes of an optimizer's state with the weights, over those of the weights."""
_ORTHOGONAL_BYTES = 4 + 3 * 2
"""Bytes of each element of a whole matrix while Muon works on it: itself in fp32, and three in bf16."""


@dataclass(frozen=True)
class Gathered:
    """What an optimizer that needs whole matrices has of those that are cut, in one process.

    Attributes:
        held: most bytes that are alive besides the state.
        sent: bytes that a step's update gathers or adds up.
    """

    held: float = 0.0
    sent: float = 0.0


def gathered(config: Any, settings: TrainSettings, layout: Layout) -> Gathered:
    """Of Muon, which puts one matrix together at a time, and Adafactor, which adds up the sums of rows and columns."""
    if settings.optimizer == "adamw" or not (layout.sharded or layout.tensor > 1):
        return Gathered()
    from torch._subclasses.fake_tensor import FakeTensorMode

    from arriero.models.checkpoint import build_model
    from arriero.training.optimizers.roles import parameter_roles

    with FakeTensorMode():
        model = build_model(config)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    if settings.optimizer == "adafactor":
        sums = [4.0 * (shape[-2] + shape[-1]) for shape in shapes.values() if len(shape) > 1]
        return Gathered(max(sums, default=0.0), sum(sums) / layout.pipeline)
    sizes = [
        shapes[name].numel()
        for name, role in parameter_roles(model).items()
        if role == "matrix" and len(shapes[name]) == 2
    ]
    return Gathered(_ORTHOGONAL_BYTES * max(sizes, default=0), 4.0 * sum(sizes) / layout.pipeline)


def planned_layout(config: Any, objective: Objective, settings: TrainSettings) -> Layout:
    """The layout of the processes that torchrun started, else of as many as the settings name.

    Raises:
        ArrieroError: it does not fit the model, the objective or the optimizer.
    """
    layout = layout_of(settings.parallel, planned_size(settings.parallel, world().size))
    check_layout(layout, config, objective, settings)
    return layout


def divided(
    estimate: Estimate,
    layout: Layout,
    *,
    state_bytes: float,
    peak_bytes: float,
    device_bytes: float,
    optimizer: str = "adamw",
    gathered_bytes: float = 0.0,
) -> Estimate:
    """The estimate of one process of a layout, from that of a process alone.

    Memory: weights, gradients and optimizer states are cut into as many parts as the layout has; of what else lives in a
    step, at least what tensor and context leave of it, at most all of it and all weights gathered. Seconds: between a
    full share of speed each (devices of their own) and none (cores that they share).

    Args:
        state_bytes: weights and optimizer state; peak_bytes: the most that lives in a step, state and gradients too.
        device_bytes: what a process takes before anything is allocated.
        gathered_bytes: what the optimizer has of whole matrices (:func:`gathered`).
    """
    if layout.size == 1:
        return estimate
    weights = state_bytes / _STATE_OF_WEIGHTS[optimizer]
    held = (state_bytes + weights) / layout.weight_parts
    step = max(0.0, peak_bytes - state_bytes - weights)
    low = device_bytes + held + max(step / (layout.tensor * layout.context), gathered_bytes)
    high = device_bytes + (held + max(step, gathered_bytes) + (weights if layout.sharded else 0.0)) * 1.3
    memory = Quantity(
        value=(low + high) / 2, low=low, high=high, unit="B", basis="modelled",
        source=f"a process of {layout}: state over {layout.weight_parts}, activations between a share and all",
    )  # fmt: skip
    alone = estimate.seconds
    assert alone.value is not None and alone.low is not None and alone.high is not None
    seconds = Quantity(
        value=alone.value, low=alone.low / layout.size, high=alone.high * _SLOWER, unit="s", basis="modelled",
        source=f"{alone.source}; {layout.size} processes on this machine share its cores, on devices of their own they "
        "divide the time",
    )  # fmt: skip
    return estimate.model_copy(update={"peak_memory": memory, "seconds": seconds})


def with_failures(estimate: Estimate, layout: Layout, device: DeviceProfile) -> tuple[Estimate, list[str]]:
    """The estimate with the time that failures will take, and a line on it; of one process alone as it is.

    Args:
        device: its accelerator's published failure rate is used, never that of another device.
    """
    seconds = estimate.seconds
    if layout.size == 1 or seconds.value is None:
        return estimate, []
    share = effective_time(layout.size, seconds.value, gpu=device.accelerator)
    if share.value is None:
        return estimate, [f"failures of the {layout.size} processes are not counted: {share.source}"]
    note = f"{share.value:.1%} of the time trains, the rest goes to failures and checkpoints ({share.source})"
    return estimate.model_copy(update={"seconds": wall_time(seconds, share)}), [note]
