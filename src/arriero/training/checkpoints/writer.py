"""The writing half of torch's distributed checkpoint: one safetensors file a rank, tensor by tensor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from arriero.errors import ArrieroError
from arriero.models.tensor_files import DTYPE_NAMES, TensorEntry, write_tensors
from arriero.training.checkpoints.layout import chunk_name, tensor_file
from arriero.training.checkpoints.staging import Staging

Chunk = tuple[str, torch.Tensor]


class SafetensorsWriter(StorageWriter):
    """Writes this rank's tensors to ``folder/rank-<n>.safetensors``, without fsync; the rest is the store's.

    Tensors on the CPU go straight from where they are to the operating system's page cache, which is the cheapest
    copy that training cannot change any more: when ``torch.distributed.checkpoint.save`` returns, they are safe from
    the next step. Tensors of an accelerator are copied to host memory (``staging``), and :attr:`rest` writes the file.

    Attributes:
        metadata: what was saved, on the coordinator, once it is.
        files: the file of every part of every tensor, likewise.
        rest: what is left to do after saving, from any thread.
    """

    def __init__(self, folder: Path, rank: int, staging: Staging) -> None:
        self._folder = folder
        self._rank = rank
        self._staging = staging
        self.metadata: Metadata | None = None
        self.files: dict[MetadataIndex, str] = {}
        self.rest: Callable[[], None] = lambda: None

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing: a writer is for one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing: the store has made the folder."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans as they are."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this rank's parts, or copy them to host memory to be written later.

        Raises:
            ArrieroError: a dtype that safetensors does not have.
            OSError: the disk is full, or not writable.
        """
        chunks = [(chunk_name(item.index), _local(planner.resolve_data(item))) for item in plan.items]
        path = self._folder / tensor_file(self._rank)
        if self._staging.needed(chunks):
            staged = self._staging.copy(chunks)
            self.rest = lambda: _write(path, staged)
        else:
            _write(path, chunks)
        results = [
            WriteResult(index=item.index, size_in_bytes=tensor.nbytes, storage_data=path.name)
            for item, (_, tensor) in zip(plan.items, chunks, strict=True)
        ]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Keep what was saved where; it is written with the rest."""
        self.metadata = metadata
        self.files = {result.index: result.storage_data for rank in results for result in rank}

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Never chosen by torch on its own."""
        return False


def _local(tensor: Any) -> torch.Tensor:
    found: torch.Tensor = tensor.detach()
    return found


def _write(path: Path, chunks: list[Chunk]) -> None:
    write_tensors(path, [_entry(name, tensor) for name, tensor in chunks])


def _entry(name: str, tensor: torch.Tensor) -> TensorEntry:
    if tensor.dtype not in DTYPE_NAMES:
        raise ArrieroError(f"'{name}' is of {tensor.dtype}, which a checkpoint cannot hold")
    return TensorEntry(name, tuple(tensor.shape), tensor.dtype, lambda: tensor)
