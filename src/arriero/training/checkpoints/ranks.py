"""The ranks that save and load a checkpoint together: one where no process group is."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


class Ranks:
    """Rank and size of a process group (by default the one of all ranks), and agreement among its ranks.

    Every method is a collective: all ranks call it, in the same order, from their main threads.
    """

    def __init__(self, group: Any = None) -> None:
        import torch.distributed as dist

        self.there = dist.is_available() and dist.is_initialized()
        self.group = group
        self.rank = dist.get_rank(group) if self.there else 0
        self.size = dist.get_world_size(group) if self.there else 1

    @property
    def first(self) -> bool:
        """True on the rank that decides and speaks for all."""
        return self.rank == 0

    def agree(self, value: T) -> T:
        """The first rank's value, on every rank."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held = [value]
        source = dist.get_global_rank(self.group, 0) if self.group is not None else 0
        dist.broadcast_object_list(held, src=source, group=self.group)
        return held[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on every rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value, group=self.group)
        return held
