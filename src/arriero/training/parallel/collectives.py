"""Collectives between the processes of one group: those that autograd differentiates, and torch's by one name."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# torch 2.13 gave them other names
gather_single = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
reduce_scatter_single = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def gather_along(x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """The processes' x [...], all of one shape, one after the other along ``dim``; the backward pass adds up what
    every process has to say about its piece."""
    result: Tensor = _Gather.apply(x, dim, group)
    return result


def copied(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """x itself, which all processes have; the backward pass adds up their gradients."""
    result: Tensor = _Copied.apply(x, group)
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
        ctx.dim, ctx.group = dim, group
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
        dist.all_gather(parts, x.contiguous(), group=group)
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        # first dimension: what reduce_scatter cuts
        size = ctx.group.size()
        stacked = torch.stack(gradient.chunk(size, ctx.dim)).contiguous()
        mine = torch.empty_like(stacked[0])
        reduce_scatter_single(mine, stacked.flatten(0, 1), group=ctx.group)
        return mine, None, None


class _Copied(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None
