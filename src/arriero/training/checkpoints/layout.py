"""Names of a checkpoint's files, and its layout (which part of which tensor is in which file) as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from arriero.models.tensor_files import DTYPE_NAMES

FORMAT = "arriero.checkpoint/2"
LAYOUT, STATE, MARKER = "layout.json", "state.json", "complete.json"
_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")


def tensor_file(rank: int) -> str:
    """File with the tensors that this rank wrote."""
    return f"rank-{rank:05d}.safetensors"


def rank_file(rank: int) -> str:
    """File with what only this rank has beside tensors."""
    return f"rank-{rank:05d}.json"


def plain_name(name: str) -> str:
    """The parameter's name in the plain model, whatever wraps the modules (compiling, recomputing, sharding)."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def chunk_name(index: MetadataIndex) -> str:
    """Name of a part of a tensor within its file: the tensor's own, and where the part begins unless at its start."""
    offsets = tuple(index.offset or ())
    return f"{index.fqn}@{','.join(map(str, offsets))}" if any(offsets) else index.fqn


def dump_layout(metadata: Metadata, files: Mapping[MetadataIndex, str]) -> dict[str, Any]:
    """JSON of torch's metadata. ``files``: the file that each part was written to."""
    tensors = {}
    for name, stored in sorted(metadata.state_dict_metadata.items()):
        assert isinstance(stored, TensorStorageMetadata), name
        chunks = [
            {
                "file": files[MetadataIndex(name, chunk.offsets)],
                "offsets": list(chunk.offsets),
                "sizes": list(chunk.sizes),
            }
            for chunk in stored.chunks
        ]
        tensors[name] = {
            "dtype": DTYPE_NAMES[stored.properties.dtype],
            "shape": list(stored.size),
            "chunks": chunks,
        }
    return {"tensors": tensors}


def load_layout(value: Mapping[str, Any]) -> Metadata:
    """Torch's metadata from :func:`dump_layout`; ``storage_data`` maps every part to its file.

    Raises:
        KeyError, TypeError, ValueError: not such a layout.
    """
    stored: dict[str, Any] = {}
    files: dict[MetadataIndex, str] = {}
    for name, tensor in value["tensors"].items():
        chunks = []
        for chunk in tensor["chunks"]:
            offsets, sizes = torch.Size(chunk["offsets"]), torch.Size(chunk["sizes"])
            chunks.append(ChunkStorageMetadata(offsets=offsets, sizes=sizes))
            files[MetadataIndex(name, offsets)] = str(chunk["file"])
        properties = TensorProperties(dtype=_DTYPES[tensor["dtype"]])
        stored[name] = TensorStorageMetadata(
            properties=properties, size=torch.Size(tensor["shape"]), chunks=chunks
        )
    return Metadata(state_dict_metadata=stored, storage_data=files)
