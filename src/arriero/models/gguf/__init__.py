"""GGUF, llama.cpp's file format: models read from it and written to it."""

from __future__ import annotations

from pathlib import Path

from arriero.models.gguf.block_types import WRITTEN, BlockType, written_type
from arriero.models.gguf.model import GgufModel
from arriero.models.gguf.writer import GgufFile

__all__ = ["WRITTEN", "BlockType", "GgufFile", "GgufModel", "open_gguf", "written_type"]


def open_gguf(path: Path | str) -> GgufModel:
    """Open a ``.gguf`` file; the tensors are read when they are asked for.

    Raises:
        ArrieroError: it is not a readable GGUF file of an architecture that Arriero has.
    """
    return GgufModel(Path(path))
