"""The reading half of torch's distributed checkpoint: parts of tensors from the ranks' safetensors files."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from arriero.training.checkpoints.layout import chunk_name


class SafetensorsReader(StorageReader):
    """Copies what a plan asks for straight into the tensors in use; the files are mapped, not read whole.

    Args:
        folder: the checkpoint.
        metadata: its layout (:func:`arriero.training.checkpoints.layout.load_layout`).
    """

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self._folder = folder
        self._metadata = metadata

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing: a reader is for one checkpoint."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The layout."""
        return self._metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to prepare."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are."""
        return plans

    @torch.no_grad()
    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy every part that the plan names."""
        files: dict[str, list[ReadItem]] = defaultdict(list)
        for item in plan.items:
            files[self._metadata.storage_data[item.storage_index]].append(item)
        for name, items in files.items():
            with safe_open(self._folder / name, framework="pt") as file:
                for item in items:
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(_part(file, item))
                    planner.commit_tensor(item, target)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Never chosen by torch on its own."""
        return False


def _part(file: Any, item: ReadItem) -> torch.Tensor:
    """The stretch of a stored part that the item asks for."""
    name = chunk_name(item.storage_index)
    if not item.lengths:
        whole: torch.Tensor = file.get_tensor(name)
        return whole
    ends = (start + length for start, length in zip(item.storage_offsets, item.lengths, strict=True))
    part: torch.Tensor = file.get_slice(name)[
        tuple(slice(a, b) for a, b in zip(item.storage_offsets, ends, strict=True))
    ]
    return part
