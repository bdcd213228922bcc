"""A search over plans of which the chosen one rests on the memory of its own group of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from arriero.cost.search.columns import MODES, Plans
from arriero.cost.workload import Workload
from arriero.planning.memory.sifted import opened, sifted

T = TypeVar("T")


def settled(
    plans: Plans, workloads: Sequence[Workload], search: Callable[[list[Workload]], tuple[T, int | None]]
) -> T:
    """What ``search`` finds once the plan that it chooses has been traced; as often as another one takes its place.

    Args:
        workloads: what ``plans.variant`` counts.
        search: gives what it found and the row of the plan that it rests on, None where there is none.
    """
    sieve = [sifted(workload) for workload in workloads]
    while True:
        found, row = search(sieve)
        if row is None or not _opened(plans, row, sieve):
            return found


def _opened(plans: Plans, row: int, workloads: Sequence[Workload]) -> bool:
    one = plans.take(slice(row, row + 1))
    mode = MODES[int(one.recompute[0])]
    return opened(workloads[int(one.variant[0])], one.cut, one.micro_batch, mode, one.accumulation)


__all__ = ["settled"]
