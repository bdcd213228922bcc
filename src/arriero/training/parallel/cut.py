"""A DTensor's part, as optimizers see it (``optimizers.cut.Cut``)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard


class DTensorCut:
    """The cut of one parameter. All processes of its mesh must make it together."""

    def __init__(self, source: DTensor) -> None:
        self._mesh, self._placements = source.device_mesh, source.placements
        self._stride = source.stride()
        self.shape = source.shape
        local = source.to_local()
        self.places = [self._indices(dim, size, local.device) for dim, size in enumerate(local.shape)]

    def _indices(self, dim: int, size: int, device: torch.device) -> Tensor:
        """Indices of this process' part along ``dim``: those that bear its number when all are put together."""
        # a stride of FSDP over tensor parallelism is of the first dimension, and stays as it is
        along = [getattr(one, "dim", None) == dim for one in self._placements]
        placements = [
            (one if dim == 0 else Shard(0)) if cuts else Replicate()
            for one, cuts in zip(self._placements, along, strict=True)
        ]
        coordinate = self._mesh.get_coordinate()
        assert coordinate is not None
        number = 0
        for cuts, place, count in zip(along, coordinate, self._mesh.shape, strict=True):
            number = number * count + (place if cuts else 0)
        mine = torch.full((size,), number, dtype=torch.int64, device=device)
        length = torch.Size([self.shape[dim]])
        numbers = DTensor.from_local(
            mine, self._mesh, placements, run_check=False, shape=length, stride=(1,)
        ).full_tensor()
        return (numbers == number).nonzero().flatten()

    def whole(self, part: Tensor) -> Tensor:
        return DTensor.from_local(
            part, self._mesh, self._placements, run_check=False, shape=self.shape, stride=self._stride
        ).full_tensor()

    def mine(self, whole: Tensor) -> Tensor:
        for dim, places in enumerate(self.places):
            if len(places) < whole.shape[dim]:
                whole = whole.index_select(dim, places)
        return whole

    def total(self, sums: Tensor) -> Tensor:
        for dim, placement in enumerate(self._placements):
            if not placement.is_replicate() and self._mesh.size(dim) > 1:
                dist.all_reduce(sums, group=self._mesh.get_group(dim))
        return sums
