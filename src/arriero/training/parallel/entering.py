"""How the inputs of cut layers come to them, and come again in the backward pass in place of being kept for it.

A cut stream is gathered for the layers that read it, and gathered once more for their weights' gradients
(arXiv 2205.05198, section 4.2.2): begun before the gradient of the first one's input, and waited for after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import RowwiseParallel
from torch.distributed.tensor.parallel.style import ParallelStyle

from arriero.models.layers.remade import remade_like
from arriero.training.parallel.collectives import gather_single

_WHOLE: tuple[Placement, ...] = (Replicate(),)


class Entering(ParallelStyle):
    """The first of the inputs, which lies over the processes as ``there``, as a DTensor of the same place, or gathered.

    Args:
        there: where the input lies; ``Shard(1)`` if it is to be gathered.
        gather: whole in every process.
        again: not kept for the backward pass if it can be made again there.
    """

    def __init__(self, there: Placement, gather: bool, again: bool) -> None:
        super().__init__()
        self._there, self._gather, self._again = (there,), gather, again

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        def enter(x: torch.Tensor) -> torch.Tensor:
            part = DTensor.from_local(x, device_mesh, self._there, run_check=False)
            return part.redistribute(placements=_WHOLE) if self._gather else part

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            x, *others = inputs
            again = partial(_begin_gather, device_mesh) if self._gather else enter
            return (remade_like(x, enter(x), again) if self._again else enter(x), *others)

        module.register_forward_pre_hook(hook)
        return module


class Rows(RowwiseParallel):
    """Columns of the weight over the processes, of an input of which each has its part and keeps none it can make again."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        Entering(Shard(-1), gather=False, again=True)._apply(module, device_mesh)
        return super()._apply(module, device_mesh)


def _begin_gather(mesh: DeviceMesh, part: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Ask for the others' parts [B, S/n, d_model]; what is returned waits for them and gives all of it [B, S, d_model].

    A redistribution along the second dimension waits at once, even if it is told not to.
    """
    part = part.contiguous()
    coming = part.new_empty(mesh.size() * len(part), *part.shape[1:])
    work = gather_single(coming, part, mesh.get_group(), async_op=True)
    assert work is not None

    def whole() -> torch.Tensor:
        work.wait()
        by_process = coming.unflatten(0, (mesh.size(), len(part)))
        # sequences of one row lie there in order already
        in_order = by_process.transpose(0, 1).flatten(1, 2)
        return DTensor.from_local(in_order, mesh, _WHOLE, run_check=False)

    return whole
