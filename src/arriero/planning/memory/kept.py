"""The memory profiles of a workload as they are kept on disk: what was traced before needs no torch."""

from __future__ import annotations

import math
import sys
from typing import Any

from arriero.cost.memory.profile import Group, MemoryProfile, StagePart
from arriero.cost.workload import Recompute
from arriero.models.config import ModelConfig
from arriero.planning.counts.as_data import ByMode, profile_data, profile_from
from arriero.planning.counts.subject import Subject
from arriero.planning.counts.traces import remembered

_UNEVEN = 0.003
"""Share of the weights that rows to fill up may be before a group of that size is traced itself."""


def in_group() -> bool:
    """Whether this process is one of several that torchrun started."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


class KeptProfiles(ByMode[MemoryProfile]):
    """Profiles by mode of recomputation; and those of one process of a group that cuts the model.

    Args:
        weight_bytes: of the whole model as it is held. modes: those that the family knows.
    """

    def __init__(
        self, config: ModelConfig, subject: Subject, weight_bytes: float, modes: tuple[Recompute, ...]
    ) -> None:
        super().__init__(modes, self._of_one)
        self.config, self.subject = config, subject
        self._weight_bytes = weight_bytes
        self._parts: dict[tuple[Recompute, Group, StagePart | None], MemoryProfile | None] = {}
        self._rows: dict[str, int] | None = None

    def cut(self, mode: Recompute, group: Group, part: StagePart | None = None) -> MemoryProfile | None:
        """What the first process of a group holds (the others hold no more), in a pipeline's stage where ``part`` says which;
        None where the model cannot be cut so."""
        key = (mode, group, part)
        if key not in self._parts:
            self._parts[key] = self._of_part(*key)
        return self._parts[key]

    def sharers(self, tensor: int, sharers: int, context: int) -> int:
        """How many processes that share weights and states are traced to tell what one of ``sharers`` holds: as few as can
        be, where what they have is cut over many as it is over those.

        Args:
            context: of them have parts of one sequence.
        """
        if self.subject.optimizer != "adamw":  # whose states and work are all cut as the weights are
            return sharers
        rows, few = self._rows_of_weights(), max(2, context)
        return few if _padded(rows, tensor * sharers) - _padded(rows, few) < _UNEVEN else sharers

    def _rows_of_weights(self) -> dict[str, int]:
        """Parameters by the length of their tensors' first dimension, which FSDP cuts."""
        if self._rows is None:

            def make() -> dict[str, int]:
                from arriero.planning.memory.profiles import rows_of_weights

                return rows_of_weights(self.config)

            self._rows = remembered(self.config, self.subject, "rows of weights", make)
        return self._rows

    def _of_one(self, mode: Recompute) -> MemoryProfile:
        def make() -> dict[str, Any]:
            from arriero.planning.memory.profiles import traced_profile

            return profile_data(traced_profile(self.config, self.subject, self._weight_bytes, mode))

        return profile_from(remembered(self.config, self.subject, f"memory {mode}", make))

    def _of_part(self, mode: Recompute, group: Group, part: StagePart | None) -> MemoryProfile | None:
        def make() -> dict[str, Any]:
            from arriero.planning.memory.profiles import traced_part

            found = traced_part(self.config, self.subject, mode, group, self._weight_bytes, part)
            return {} if found is None else profile_data(found)

        if (
            in_group()
        ):  # a group that does not exist cannot be made inside one that does; nothing is kept of it
            return None
        data = remembered(self.config, self.subject, _named(mode, group, part), make)
        return profile_from(data) if data else None


def _named(mode: Recompute, group: Group, part: StagePart | None) -> str:
    words = [f"memory {mode}", f"tensor {group.tensor}"]
    words += ["sequence"] * group.sequence + [f"sharers {group.sharers}"] * (group.sharers > 1)
    words += [f"context {group.context}"] * (group.context > 1) + ["copies"] * group.copies
    words += [f"blocks {group.blocks}"] * (group.blocks > 0)
    return ", ".join([*words, *([] if part is None else [f"{part} stage"])])


def _padded(rows: dict[str, int], parts: int) -> float:
    """Elements that so many parts hold together, over those that there are: each holds as many rows as the first."""
    held = sum(math.ceil(int(n) / parts) * parts * elements / int(n) for n, elements in rows.items())
    return held / sum(rows.values())
