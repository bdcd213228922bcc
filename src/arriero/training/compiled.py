"""torch.compile of a model's Transformer blocks: their element-wise passes become few, at the price of a first step of
a minute or so. One kernel serves all blocks of a shape; names of parameters stay, so checkpoints fit either way."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from arriero.errors import ArrieroError
from arriero.products import prepare_for_compiling
from arriero.training.recompute import blocks_of


@contextmanager
def compiled_blocks(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Have the model's blocks compiled while the body runs.

    Raises:
        ArrieroError: there is no compiler on this machine, or the model has no Transformer blocks.
    """
    blocks = blocks_of(model) if wanted else []
    if wanted:
        _check(model, len(blocks))
        prepare_for_compiling()
    for block in blocks:
        block.compile()
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def _check(model: nn.Module, n_blocks: int) -> None:
    if not n_blocks:
        raise ArrieroError(
            f"compile works on Transformer blocks, and {type(model).__name__} has none; set compile to false"
        )
    if next(model.parameters()).device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ArrieroError(
                "compile needs Triton for this device: pip install triton, or set compile to false"
            )
    elif not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++", "cl")):
        raise ArrieroError(
            "compile needs a C++ compiler: install g++ (or clang++, or name one in CXX), or set compile to false"
        )
