"""How large an engine's pool is, and of which element type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from arriero.artifacts.host import memory_bytes
from arriero.errors import ArrieroError
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool, blocks_of

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder

KVType = Literal["auto", "fp32", "bf16", "int8"]
"""Element type of keys and values; ``auto`` is the model's."""

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}

POOL_SHARE = 0.25
"""Most of the machine's memory that the pool takes when nobody says how much."""

GPU_SHARE = 0.8
"""The same for what is free on a GPU once the model is there."""


def make_pool(model: Decoder, max_batch: int, max_tokens: int | None, kv_dtype: KVType) -> KVPool:
    """A pool for ``max_tokens`` tokens; by default for ``max_batch`` full contexts, or what memory allows.

    Raises:
        ArrieroError: there is no room for a single request.
    """
    config = model.config
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    dtype = parameter.dtype if kv_dtype == "auto" else _TYPES[kv_dtype]
    shape = CacheShape(config.n_layers, config.n_kv_heads, config.head_dim, dtype, str(parameter.device))
    if max_tokens is None:
        affordable = _bytes_for(parameter.device) // shape.bytes_per_token
        max_tokens = min(max_batch * blocks_of(config.context_length) * BLOCK, affordable)
    if max_tokens < 2:
        raise ArrieroError("the engine needs room for at least one request of two tokens")
    return KVPool(shape, max_tokens)


def _bytes_for(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * GPU_SHARE)
    return int(memory_bytes() * POOL_SHARE)
