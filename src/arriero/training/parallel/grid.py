"""The grid of processes as torch's device meshes, and this process' place in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from arriero.training.parallel.layout import Layout


@dataclass(frozen=True)
class Place:
    """Coordinates of this process."""

    pipeline: int
    replica: int
    data: int
    context: int
    tensor: int


class Grid:
    """Meshes and groups of a layout. All processes must make it together.

    Attributes:
        mesh: dimensions pipeline, replicas, shard (data x context), tensor.
        columns: the processes of each pipeline, from its first stage to its last.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        sizes = (layout.pipeline, layout.replicas, layout.data * layout.context, layout.tensor)
        self.mesh = init_device_mesh(
            device.type, sizes, mesh_dim_names=("pipeline", "replicas", "shard", "tensor")
        )
        fine = (layout.pipeline, layout.replicas, layout.data, layout.context, layout.tensor)
        names = ("pipeline", "replicas", "data", "context", "tensor")
        self._fine = init_device_mesh(device.type, fine, mesh_dim_names=names)
        self.columns: list[list[int]] = self.mesh.mesh.flatten(1).t().tolist()
        coordinate = self._fine.get_coordinate()
        assert coordinate is not None
        self.place = Place(*coordinate)

    @property
    def dealt(self) -> int:
        """Which share of a step's samples is this process' (of ``layout.dealt``)."""
        return self.place.replica * self.layout.data + self.place.data

    @property
    def first_of_samples(self) -> bool:
        """True for one of the processes that work on the same samples."""
        return not (self.place.pipeline or self.place.context or self.place.tensor)

    @property
    def has_loss(self) -> bool:
        """True for those whose losses add up to the step's: the last stage of a pipeline, one of a tensor group."""
        return self.place.pipeline == self.layout.pipeline - 1 and self.place.tensor == 0

    @property
    def tensor_mesh(self) -> DeviceMesh:
        return self.mesh["tensor"]

    @property
    def shard_mesh(self) -> DeviceMesh:
        """What FSDP cuts the weights over; of two dimensions (HSDP) with replicas."""
        return self.mesh["replicas", "shard"] if self.layout.replicas > 1 else self.mesh["shard"]

    @property
    def weight_group(self) -> dist.ProcessGroup:
        """Processes with the same weights and other tokens, where nothing is cut by FSDP."""
        return self.mesh["shard"].get_group()

    @property
    def tensor_group(self) -> dist.ProcessGroup:
        return self.mesh["tensor"].get_group()

    @property
    def context_group(self) -> dist.ProcessGroup:
        return self._fine["context"].get_group()

    @property
    def pipeline_group(self) -> dist.ProcessGroup:
        return self.mesh["pipeline"].get_group()
