"""The memory profiles of a workload as they are kept on disk: what was traced before needs no torch."""

from __future__ import annotations

import sys
from typing import Any

from arriero.cost.memory.profile import MemoryProfile, StagePart
from arriero.cost.workload import Recompute
from arriero.models.config import ModelConfig
from arriero.planning.counts.as_data import ByMode, profile_data, profile_from
from arriero.planning.counts.subject import Subject
from arriero.planning.counts.traces import remembered


def in_group() -> bool:
    """Whether this process is one of several that torchrun started."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


class KeptProfiles(ByMode[MemoryProfile]):
    """Profiles by mode of recomputation; and those of one process of a tensor group.

    Args:
        weight_bytes: of the whole model as it is held. modes: those that the family knows.
    """

    def __init__(
        self, config: ModelConfig, subject: Subject, weight_bytes: float, modes: tuple[Recompute, ...]
    ) -> None:
        super().__init__(modes, self._of_one)
        self.config, self.subject = config, subject
        self._weight_bytes = weight_bytes
        self._parts: dict[tuple[Recompute, int, bool, StagePart | None], MemoryProfile | None] = {}

    def cut(self, mode: Recompute, tensor: int, sequence: bool) -> MemoryProfile | None:
        """What the first of ``tensor`` processes holds (the others hold no more), or None where the model cannot be cut so.

        Args:
            sequence: the residual stream is cut along the tokens.
        """
        return self._part(mode, tensor, sequence, None)

    def stage(self, mode: Recompute, tensor: int, sequence: bool, part: StagePart) -> MemoryProfile | None:
        """As :meth:`cut`, of a process in one stage of a pipeline; ``tensor`` may be 1."""
        return self._part(mode, tensor, sequence, part)

    def _part(
        self, mode: Recompute, tensor: int, sequence: bool, stage: StagePart | None
    ) -> MemoryProfile | None:
        key = (mode, tensor, sequence, stage)
        if key not in self._parts:
            self._parts[key] = self._of_part(*key)
        return self._parts[key]

    def _of_one(self, mode: Recompute) -> MemoryProfile:
        def make() -> dict[str, Any]:
            from arriero.planning.memory.profiles import traced_profile

            return profile_data(traced_profile(self.config, self.subject, self._weight_bytes, mode))

        return profile_from(remembered(self.config, self.subject, f"memory {mode}", make))

    def _of_part(
        self, mode: Recompute, tensor: int, sequence: bool, stage: StagePart | None
    ) -> MemoryProfile | None:
        def make() -> dict[str, Any]:
            from arriero.planning.memory.profiles import traced_part

            found = traced_part(self.config, self.subject, mode, tensor, sequence, stage)
            return {} if found is None else profile_data(found)

        if (
            in_group()
        ):  # a group that does not exist cannot be made inside one that does; nothing is kept of it
            return None
        part = f"memory {mode}, tensor {tensor}" + (", sequence" if sequence else "")
        part += "" if stage is None else f", {stage} stage"
        data = remembered(self.config, self.subject, part, make)
        return profile_from(data) if data else None
