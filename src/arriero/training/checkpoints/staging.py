"""A copy of an accelerator's tensors in page-locked host memory, to be written while training goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Chunk = tuple[str, torch.Tensor]


class Staging:
    """Host buffers that are kept from one checkpoint to the next.

    Args:
        always: stage tensors of the CPU too (they need it only where the file is written later).
    """

    def __init__(self, always: bool = False) -> None:
        self._always = always
        self._buffers: dict[str, torch.Tensor] = {}

    def needed(self, chunks: Sequence[Chunk]) -> bool:
        """True when writing these now would wait for an accelerator's bus and the disk in turns."""
        return self._always or any(tensor.device.type != "cpu" for _, tensor in chunks)

    def copy(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The same tensors in host memory; on return they hold the values of this moment."""
        copies = []
        for name, tensor in chunks:
            buffer = self._buffer(name, tensor)
            buffer.copy_(tensor, non_blocking=True)
            copies.append((name, buffer))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return copies

    def _buffer(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        found = self._buffers.get(name)
        if found is None or found.shape != tensor.shape or found.dtype != tensor.dtype:
            found = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())
            self._buffers[name] = found
        return found
