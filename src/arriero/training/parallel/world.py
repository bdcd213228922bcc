"""The processes that torchrun started: how many there are, which one this is, and how they talk.

``WORLD_SIZE``, ``RANK`` and the like are torchrun's environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """Place of this process among all.

    Attributes:
        local_rank, local_size: among those of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """True for the one process that walks the recipe, shows progress and writes metrics and artifacts."""
        return self.rank == 0


def world(environment: Mapping[str, str] = os.environ) -> World:
    """What torchrun said; one process alone where it did not start this one. Needs no torch."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return World()
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    local_rank = int(environment.get("LOCAL_RANK", rank))
    return World(rank, size, local_rank, int(environment.get("LOCAL_WORLD_SIZE", size)))


def own_threads(threads: int) -> int:
    """This process' share of the processor threads of its machine."""
    return max(1, threads // world().local_size)


@cache
def store() -> dist.Store:
    """The key-value store of this start of the group; torchrun's lives on when it starts the group again."""
    import torch.distributed as dist

    found, _, _ = next(dist.rendezvous("env://"))
    return dist.PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found)


def join(device: torch.device) -> None:
    """Make the process group, once: gloo between processors, NCCL between GPUs."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    here = world()
    backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store()), rank=here.rank, world_size=here.size
    )
