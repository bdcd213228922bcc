"""Settings of the executors, and the choice among them."""

from __future__ import annotations

import os
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from arriero.data.execute.tasks import Executor, Shard

Kind = Literal["pool", "ray", "inline"]


class ExecutorSettings(BaseModel):
    """Who does the tasks. The result's bytes are the same for every setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    kind: Kind = Field(
        default="pool",
        description="pool: processes on this machine; ray: Ray's, here or on a cluster; inline: this process alone",
    )
    workers: int | None = Field(
        default=None, ge=1, le=4096, description="tasks at a time; by default one for each core"
    )
    shard: str | None = Field(
        default=None,
        pattern=r"^\d+/\d+$",
        description="i/n: only every n-th task, the i-th of them (from 1), for n machines on one file system",
    )
    shard_wait: float = Field(
        default=0.0,
        ge=0,
        description="seconds to wait for the other shards at the end of each step; 0: end, to be started again",
    )
    worker_memory: int | None = Field(
        default=None,
        ge=64 << 20,
        description="most bytes of data that a worker process may hold; a task that needs more fails (pool)",
    )
    task_seconds: float | None = Field(
        default=None, gt=0, description="most seconds for a task, after which its worker is ended (pool)"
    )
    address: str | None = Field(
        default=None,
        description="Ray cluster to join, e.g. auto or ray://head:10001; by default a local one (ray)",
    )

    @model_validator(mode="after")
    def _fits(self) -> ExecutorSettings:
        if self.address is not None and self.kind != "ray":
            raise ValueError(f"address is for kind ray, not {self.kind}")
        for name in ("worker_memory", "task_seconds"):
            if getattr(self, name) is not None and self.kind != "pool":
                raise ValueError(f"{name} is for kind pool, not {self.kind}")
        if self.shard_wait and self.shard is None:
            raise ValueError("shard_wait is for several shards; name this one with shard: 1/4")
        if self.kind == "inline" and self.workers not in (None, 1):
            raise ValueError("kind inline has one worker; give kind pool for more")
        if self.shard is not None:
            index, count = parse_shard(self.shard)
            if not 1 <= index <= count:
                raise ValueError(
                    f"there is no shard {self.shard}: shards count from 1/{count} to {count}/{count}"
                )
        return self


def parse_shard(shard: str) -> tuple[int, int]:
    """``"3/8"`` to (3, 8).

    Raises:
        ValueError: it is nothing like that.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None:
        raise ValueError(f"'{shard}' is no shard; write it as 3/8")
    return int(match[1]), int(match[2])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_executor(settings: ExecutorSettings | None = None) -> Executor:
    """The executor that the settings ask for; nothing is started yet.

    Raises:
        ArrieroError: Ray is asked for and not installed.
    """
    settings = settings or ExecutorSettings()
    shard = None if settings.shard is None else Shard(*parse_shard(settings.shard), settings.shard_wait)
    if settings.kind == "inline":
        from arriero.data.execute.inline import InlineExecutor

        return InlineExecutor(shard)
    if settings.kind == "ray":
        from arriero.data.execute.ray_executor import RayExecutor

        return RayExecutor(settings.workers, settings.address, shard)
    from arriero.data.execute.pool import PoolExecutor

    return PoolExecutor(settings.workers or cores(), shard, settings.worker_memory, settings.task_seconds)
