"""A pipeline's stages: which of their moments there are, and how many micro-batches are under way in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from arriero.cost.memory.on_device import Plans, on_stage
from arriero.cost.memory.profile import Group, MemoryProfile, StagePart, stage_of

if TYPE_CHECKING:
    from arriero.cost.workload import Recompute, Workload


def stages_of(
    workload: Workload, mode: str, group: Group, stages: int, stage: int | None
) -> dict[StagePart, MemoryProfile] | None:
    """Profiles of the stages that pipelines of so many (3: or more) have (of one of them alone, where ``stage`` says which); None
    where they cannot be traced."""
    wanted: list[StagePart] = ["first"] if stage in (None, 0) else []
    if stage != -1 and stage != 0 and stages > 2:
        wanted.append("middle")
    wanted += ["last"] if stage != 0 else []
    found: dict[StagePart, MemoryProfile] = {}
    for part in wanted:
        profile = stage_of(workload, cast("Recompute", mode), group, part)
        if profile is None:
            return None
        found[part] = profile
    return found


def stage_moments(
    profiles: Mapping[StagePart, MemoryProfile], plans: Plans, stage: int | None
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """(kinds, which plans have it) of every moment of every stage that may be the worst.

    With 1F1B (arXiv 1806.03377) as many micro-batches are under way in a stage as stages are still to come, itself
    counted. Gradients are there once the first of them has gone back.
    """
    for part, profile in profiles.items():
        to_come, there = _to_come(part, plans, stage)
        for moments, later in ((profile.first, False), (profile.later, True), (profile.closing, True)):
            for moment in moments:
                there_now = there & moment.counts(plans.sequences)
                most = to_come
                if moments is profile.closing:
                    there_now, most = there_now & (plans.accumulation > 1), np.ones_like(to_come)
                elif later and moment.where in ("backward", "end"):
                    there_now, most = (
                        there_now & (plans.accumulation > 1),
                        np.minimum(to_come, plans.accumulation - 1),
                    )
                elif later:  # a forward pass between backward passes
                    there_now = there_now & (plans.accumulation > to_come)
                if there_now.any():
                    others = np.minimum(most, plans.accumulation) - 1
                    # traced as for many micro-batches; with few, the gradient comes only when fewer are under way
                    few = (
                        (later and moments is not profile.closing)
                        * (plans.accumulation < 2 * to_come - 1)
                        * -1.0
                    )
                    yield (
                        on_stage(moment, plans, ((profile.waiting, others), (profile.early, few))),
                        there_now,
                    )


def _to_come(part: StagePart, plans: Plans, stage: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(stages from this one on, plans that have it)."""
    everywhere = np.ones_like(plans.pipeline, dtype=bool)
    if part == "first":
        return plans.pipeline, everywhere
    if part == "last":
        return np.ones_like(plans.pipeline), everywhere if stage in (None, -1) else plans.pipeline == (
            stage or 0
        ) + 1
    number = 1 if stage is None else stage
    return plans.pipeline - number, plans.pipeline > number + 1
