"""Which traces the memory of each plan goes by: plans with the same ones are worked out together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arriero.cost.memory.on_device import Plans
from arriero.cost.memory.profile import (
    Group,
    MemoryProfile,
    StagePart,
    few_blocks,
    profile_of,
    traced_sharers,
)
from arriero.cost.memory.stages import stages_of
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.cost.workload import Workload

_WHOLE: StagePart = "first"
"""Under which a profile goes that is of all stages."""


@dataclass(frozen=True)
class Basis:
    """Profiles that plans go by.

    Attributes:
        profiles: of a pipeline's stages, or one that is not of a stage. own: of one process of a tensor group.
    """

    profiles: Mapping[StagePart, MemoryProfile]
    staged: bool
    own: bool

    @property
    def whole(self) -> MemoryProfile:
        """The profile that is not of a stage."""
        return self.profiles[_WHOLE]

    @property
    def group(self) -> Group:
        """The processes among which the profiles were traced."""
        return next(iter(self.profiles.values())).group

    @property
    def identity(self) -> tuple[int, ...]:
        """The same for the same profiles."""
        return (self.staged, self.own, *map(id, self.profiles.values()))

    def by_sequences(self, plans: Plans) -> Iterator[tuple[np.ndarray, Basis]]:
        """(rows of the plans, basis) of micro-batches of one sequence, and of more, where these go another way."""
        alone = plans.sequences <= 1
        if any(profile.single is None for profile in self.profiles.values()):
            alone = np.zeros_like(alone)
        single = {part: profile.single or profile for part, profile in self.profiles.items()}
        for rows, basis in ((alone, replace(self, profiles=single)), (~alone, self)):
            if rows.any():
                yield np.flatnonzero(rows), basis


def bases(
    workload: Workload, plans: Plans, modes: np.ndarray, stage: int | None
) -> Iterator[tuple[np.ndarray, Basis]]:
    """(rows of the plans, basis), every row once.

    Args:
        plans: all of them; by what they were traced does not count. modes: names of the kinds of recomputation.
        stage: as in ``device_memory``.

    Raises:
        ArrieroError: the workload says nothing of a kind of recomputation.
    """
    mode_names, mode_numbers = np.unique(modes, return_inverse=True)
    groups = _groups(workload, plans)
    stages = np.minimum(plans.pipeline, 3)  # from three on there are stages in between
    kinds, numbers = _alike(mode_numbers, stages, *groups)
    found: dict[tuple[int, ...], tuple[Basis, list[int]]] = {}
    for number, row in enumerate(kinds):
        tensor, sequence, sharers, context, copies, blocks = (column[row] for column in groups)
        group = Group(int(tensor), bool(sequence), int(sharers), int(context), bool(copies), int(blocks))
        basis = _basis(workload, str(mode_names[mode_numbers[row]]), group, int(stages[row]), stage)
        found.setdefault(basis.identity, (basis, []))[1].append(number)
    place = np.empty(len(kinds), dtype=np.int64)
    for position, (_, these) in enumerate(found.values()):
        place[these] = position
    for position, (basis, _) in enumerate(found.values()):
        yield np.flatnonzero(place[numbers] == position), basis


def _basis(workload: Workload, mode: str, group: Group, stages: int, stage: int | None) -> Basis:
    if stages > 1:
        cut = stages_of(workload, mode, group, stages, stage)
        if cut is not None:
            return Basis(cut, staged=True, own=True)
        # a stage that cannot be traced goes by shares of the whole, which FSDP and copies cut otherwise
        group = group.simpler[-1]
    try:
        profile, own = profile_of(workload, mode, group)  # type: ignore[arg-type]
    except KeyError:
        known = ", ".join(dict.fromkeys([*workload.memory, *workload.saved_block]))
        raise ArrieroError(
            f"workload {workload.name} was not traced with recompute {mode}; it was with {known}"
        ) from None
    return Basis({_WHOLE: profile}, staged=False, own=own)


def _groups(workload: Workload, plans: Plans) -> tuple[np.ndarray, ...]:
    """Columns of :class:`Group`, in its order: the groups that are traced for the plans, of one process where none can be."""
    able = hasattr(workload.memory, "cut")
    context = plans.context if able else np.ones_like(plans.context)
    everyone = np.where(able & (plans.zero >= 3), plans.sharers, 1.0)
    kinds, numbers = _alike(plans.tensor, everyone, context)
    sharers = [
        traced_sharers(workload, int(plans.tensor[row]), int(everyone[row]), int(context[row]))
        if everyone[row] > 1
        else 1
        for row in kinds
    ]
    sequence = (plans.sequence > 0) & (plans.tensor > 1)
    copies = able & (plans.zero == 0) & (plans.data > 1)
    cut = np.array(sharers)[numbers]
    few = (plans.pipeline > 1) & (plans.layers < np.where(cut > 1, few_blocks(True), few_blocks(False)))
    return plans.tensor, sequence, cut, context, copies, np.where(few, plans.layers, 0)


def _alike(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a row of each kind, the kind of each row); rows with the same numbers, 0 or above, in all columns are of one kind."""
    key = np.zeros(columns[0].shape)
    for column in columns:
        key = key * (column.max(initial=0) + 1) + column
    _, first, kind = np.unique(key, return_index=True, return_inverse=True)
    return first, kind


__all__ = ["Basis", "bases"]
