"""Weights cut over the data processes (FSDP2), or kept whole with gradients added up at the end of a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from arriero.training.parallel.shared import Loss

BUCKET_BYTES = 25 * 2**20
"""Gradients are added up in messages of about this size, as torch's DistributedDataParallel does."""


class Root(nn.Module):
    """Runs a loss within FSDP's hooks of the outermost module, whatever methods of the model the loss calls: embedding,
    final norm and head are gathered before it and freed after its backward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, run: Callable[[], Loss]) -> Loss:
        return run()


def shard(model: nn.Module, mesh: DeviceMesh, root: nn.Module, *, kept: bool = False) -> None:
    """Cut the model's parameters over ``mesh``, block by block; the rest is one group, that of ``root``.

    Gradients are summed, not averaged: the loss is divided by the weight of the whole step already.

    Args:
        root: holds the model and is called for each pass: a :class:`Root`, or a stage of a pipeline.
        kept: blocks stay whole from their first use in a step to its end, as in a pipeline, where every micro-batch
            would gather them anew.
    """
    for block in _blocks(model):
        _summed(fully_shard(block, mesh=mesh, reshard_after_forward=not kept))
    _summed(fully_shard(root, mesh=mesh, reshard_after_forward=False))


def _summed(module: FSDPModule) -> None:
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Modules that run once in a pass, each by its own call."""
    shared = getattr(getattr(model, "config", None), "n_groups", None)  # ALBERT's run several times
    blocks: Any = getattr(model, "blocks", None)
    return list(blocks) if isinstance(blocks, nn.Module) and shared is None else []


def run_in(root: Root, run: Callable[[], Loss]) -> Loss:
    """The loss; without gradients what was gathered is freed at once, as no backward pass will do it."""
    found: Loss = root(run)
    if not torch.is_grad_enabled():
        free(root)
    return found


def free(root: nn.Module) -> None:
    """Let go of what a pass without gradients gathered: no backward pass will do it."""
    for module in root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def add_up(tensors: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """Replace every tensor by its sum over the group."""
    if group.size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat, group=group)
        for tensor, part in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(part.view_as(tensor))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (bucket[0].dtype != tensor.dtype or sum(t.nbytes for t in bucket) >= BUCKET_BYTES):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
