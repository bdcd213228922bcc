"""Memory for choosing among many plans: that of one process cut by each plan, and traces of the few groups that matter.

To trace the group of processes of every layout takes seconds each, and a search has dozens of them. So plans are sifted by
what a layout leaves of one process's trace; a plan that would be chosen is held to the trace of its own group, with all
plans that have the same; and so on, until the chosen one rests on its own trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from arriero.cost.cut import Count, Cut
from arriero.cost.memory import device_memory
from arriero.cost.memory.profile import CutProfiles, Group, MemoryProfile, StagePart
from arriero.cost.workload import Recompute, Workload
from arriero.planning.counts.as_data import ByMode


class SiftedProfiles(ByMode[MemoryProfile]):
    """Profiles of one process alone, and of one in the groups that were opened."""

    def __init__(self, profiles: Mapping[Recompute, MemoryProfile]) -> None:
        super().__init__(tuple(profiles), profiles.__getitem__)
        self._cut = cast(CutProfiles, profiles)
        self._opened: set[tuple[Recompute, Group, StagePart | None]] = set()
        self._opening = False

    def cut(self, mode: Recompute, group: Group, part: StagePart | None = None) -> MemoryProfile | None:
        """As ``CutProfiles.cut``; None where the group is not open."""
        key = (mode, group, part)
        if self._opening:
            self._opened.add(key)
        return self._cut.cut(*key) if key in self._opened else None

    def sharers(self, tensor: int, sharers: int, context: int) -> int:
        """As ``CutProfiles.sharers``."""
        return self._cut.sharers(tensor, sharers, context)

    @contextmanager
    def opening(self) -> Iterator[set[tuple[Recompute, Group, StagePart | None]]]:
        """Groups that are asked for in the body are open from then on; gives those that were before."""
        self._opening = True
        try:
            yield set(self._opened)
        finally:
            self._opening = False

    @property
    def opened(self) -> frozenset[tuple[Recompute, Group, StagePart | None]]:
        """What is traced by now."""
        return frozenset(self._opened)


def sifted(workload: Workload) -> Workload:
    """The workload with memory for sifting; as it is where its groups cannot be traced."""
    if not hasattr(workload.memory, "cut"):
        return workload
    return replace(workload, memory=SiftedProfiles(workload.memory))


def opened(
    workload: Workload, cut: Cut, micro_batch: Count, recompute: Recompute, accumulation: Count
) -> bool:
    """Trace the group of one plan, unless it is open: False then."""
    if not isinstance(workload.memory, SiftedProfiles):
        return False
    with workload.memory.opening() as before:
        device_memory(workload, cut, micro_batch=micro_batch, recompute=recompute, accumulation=accumulation)
    return workload.memory.opened > before


__all__ = ["SiftedProfiles", "opened", "sifted"]
