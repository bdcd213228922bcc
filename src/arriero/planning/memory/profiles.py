"""The memory profiles of a workload, as they are traced; ``kept`` remembers them."""

from __future__ import annotations

from dataclasses import replace

from arriero.cost.memory.profile import MemoryProfile, Moment, StagePart
from arriero.cost.workload import Recompute
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.planning.counts.objectives import planned_objective, planned_shape
from arriero.planning.counts.subject import Subject
from arriero.planning.memory.profile import memory_profile
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
    tensor: int,
    sequence: bool,
    stage: StagePart | None = None,
) -> MemoryProfile | None:
    """Of the first of ``tensor`` processes (the others hold no more), in this stage of a pipeline or without one; None where
    the model cannot be cut so.

    Args:
        sequence: the residual stream is cut along the tokens.
    """
    if (sequence and subject.context % tensor) or (stage is not None and subject.held in ("int8", "int4")):
        return None
    layout = Layout(
        pipeline=1, replicas=1, data=1, context=1, tensor=tensor, sequence=sequence and tensor > 1, sharded=False
    )  # fmt: skip
    work, shape = traced_work(config, subject, mode), _sequence(subject)
    try:
        return (
            memory_profile(work, shape, layout)
            if stage is None
            else stage_profile(work, shape, layout, stage)
        )
    except ArrieroError:
        return None


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
    return MemoryProfile(first, later, profile.basis)
