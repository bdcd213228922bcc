"""The memory profiles of a workload, each traced when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from arriero.cost.memory.profile import MemoryProfile, Moment
from arriero.cost.workload import Recompute
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.planning.counts.objectives import planned_objective, planned_shape
from arriero.planning.counts.subject import Subject
from arriero.planning.memory.profile import memory_profile
from arriero.training.parallel.layout import Layout
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work


class MemoryProfiles(Mapping[Recompute, MemoryProfile]):
    """Profiles by mode of recomputation.

    Args:
        weight_bytes: of the whole model as it is held; counts where the traced weights are not those (int8, int4).
        modes: those that the family knows.
    """

    def __init__(
        self, config: ModelConfig, subject: Subject, weight_bytes: float, modes: tuple[Recompute, ...]
    ) -> None:
        self._config, self._subject, self._modes = config, subject, modes
        self._weight_bytes = weight_bytes if subject.held in ("int8", "int4") else None
        self._found: dict[Recompute, MemoryProfile] = {}
        self._cut: dict[tuple[Recompute, int, bool], MemoryProfile | None] = {}

    def __getitem__(self, mode: Recompute) -> MemoryProfile:
        if mode not in self._modes:
            raise KeyError(mode)
        if mode not in self._found:
            found = self._traced(mode)
            self._found[mode] = found if self._weight_bytes is None else _held(found, self._weight_bytes)
        return self._found[mode]

    def cut(self, mode: Recompute, tensor: int, sequence: bool) -> MemoryProfile | None:
        """What the first of ``tensor`` processes holds (the others have no more), or None where the model cannot be cut so.

        Args:
            sequence: the residual stream is cut along the tokens.
        """
        key = (mode, tensor, sequence)
        if key not in self._cut:
            self._cut[key] = self._traced_cut(*key)
        return self._cut[key]

    def _traced_cut(self, mode: Recompute, tensor: int, sequence: bool) -> MemoryProfile | None:
        length = self._subject.context
        if sequence and length % tensor:
            return None
        layout = Layout(
            pipeline=1, replicas=1, data=1, context=1, tensor=tensor, sequence=sequence, sharded=False
        )
        try:
            return self._traced(mode, layout)
        except ArrieroError:
            return None

    def _traced(self, mode: Recompute, layout: Layout | None = None) -> MemoryProfile:
        subject = self._subject
        masked = subject.document_mask and subject.objective == "causal"
        shape = planned_shape(subject.objective, 1, subject.context, subject.scored, subject.source, masked)
        return memory_profile(traced_work(self._config, subject, mode), shape, layout)

    def __iter__(self) -> Iterator[Recompute]:
        return iter(self._modes)

    def __len__(self) -> int:
        return len(self._modes)


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
