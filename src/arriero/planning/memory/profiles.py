"""The memory profiles of a workload, as they are traced; ``kept`` remembers them."""

from __future__ import annotations

from dataclasses import replace

import torch

from arriero.cost.memory.profile import Group, MemoryProfile, Moment, StagePart
from arriero.cost.workload import Recompute
from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.planning.counts.objectives import planned_objective, planned_shape
from arriero.planning.counts.subject import Subject
from arriero.planning.memory.profile import in_group, memory_profile
from arriero.planning.memory.stages import stage_profile
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import Layout
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work


def traced_profile(
    config: ModelConfig, subject: Subject, weight_bytes: float, mode: Recompute
) -> MemoryProfile:
    """Of one process alone.

    Args:
        weight_bytes: of the whole model as it is held; counts where the traced weights are not those (int8, int4).
    """
    found = memory_profile(traced_work(config, subject, mode), _sequence(subject))
    return _held(found, weight_bytes) if subject.held in ("int8", "int4") else found


def traced_part(
    config: ModelConfig,
    subject: Subject,
    mode: Recompute,
    group: Group,
    weight_bytes: float,
    stage: StagePart | None = None,
) -> MemoryProfile | None:
    """Of the first process of a group (the others hold no more), in this stage of a pipeline or without one; None where the
    model cannot be cut so.

    Args:
        weight_bytes: as in :func:`traced_profile`.
    """
    sequence = group.sequence and group.tensor > 1
    packed = subject.held in ("int8", "int4")
    if (sequence and subject.context % group.tensor) or (packed and (stage is not None or group.sharers > 1)):
        return None
    layout = Layout(
        pipeline=1, replicas=1, data=2 if group.copies else group.sharers // group.context or 1,
        context=group.context, tensor=group.tensor, sequence=sequence, sharded=group.sharers > 1,
    )  # fmt: skip
    if subject.context % layout.length_step:
        return None
    work, shape = traced_work(config, subject, mode), _sequence(subject)
    try:
        found = (
            memory_profile(work, shape, layout)
            if stage is None
            else stage_profile(work, shape, layout, stage, group.blocks)
        )
        return in_group(_held(found, weight_bytes) if packed else found, group)
    except ArrieroError:
        return None


def rows_of_weights(config: ModelConfig) -> dict[str, int]:
    """Parameters by the length of their tensors' first dimension."""
    found: dict[str, int] = {}
    with torch.device("meta"):
        model = build_model(config)
    for p in model.parameters():
        rows = str(p.shape[0]) if p.ndim else "1"
        found[rows] = found.get(rows, 0) + p.numel()
    return found


def _sequence(subject: Subject) -> Shape:
    masked = subject.document_mask and subject.objective == "causal"
    return planned_shape(subject.objective, 1, subject.context, subject.scored, subject.source, masked)


def traced_work(config: ModelConfig, subject: Subject, mode: Recompute = "none") -> Work:
    """The training of a subject as ``training.traced`` traces it."""
    objective = planned_objective(config, subject.objective, subject.context)
    settings = TrainSettings(optimizer=subject.optimizer, activation_checkpointing=mode)
    return Work(config, objective, settings, subject.dtype, subject.adapt)


def _held(profile: MemoryProfile, weight_bytes: float) -> MemoryProfile:
    """With weights of so many bytes in place of those that were traced."""

    def scaled(moment: Moment) -> Moment:
        traced = moment.bytes["weights"]
        factor = weight_bytes / traced[0]
        once, each = moment.block.get("weights", (0.0, 0.0))
        return replace(
            moment,
            bytes={**moment.bytes, "weights": tuple(value * factor for value in traced)},
            block={**moment.block, "weights": (once * factor, each * factor)},
        )

    first, later = (tuple(map(scaled, moments)) for moments in (profile.first, profile.later))
    return replace(profile, first=first, later=later)
