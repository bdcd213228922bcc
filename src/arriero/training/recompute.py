"""Activation checkpointing: what the blocks' forward pass keeps for the backward pass, and what is worked out again.

``full`` keeps a block's input and runs the block again (Chen et al., arXiv 1604.06174): a third more arithmetic.
``selective`` keeps what is narrow and dear to make, the attention's result and those of the products between equal
widths (queries, output), and works out the wide feed-forward's results and what is element-wise again: a middle way
(Korthikanti et al., arXiv 2205.05198, chose by the same reason in their day, when attention's scores were the widest).
Either gives the same bits as keeping everything.

Blocks are wrapped for as long as training lasts, whatever family they belong to; names of parameters stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from arriero.errors import ArrieroError
from arriero.models.layers.block import Block
from arriero.models.layers.known import values_known

Recompute = Literal["none", "selective", "full"]
_WEIGHTS = {"mm": 1, "addmm": 2, "linear": 1, "_linear_pointwise": 1, "_scaled_mm": 1}
"""Products with a weight, and which of their arguments it is. Those between activations (bmm) are made again."""
_ATTENTION = ("_scaled_dot_product", "causal_attention")
_NARROW = 2.0
"""A product widens or narrows when its widths differ by more than this factor."""


def blocks_of(model: nn.Module) -> list[Block]:
    """The model's Transformer blocks, each once."""
    return [module for module in model.modules() if isinstance(module, Block)]


@contextmanager
def recomputing(model: nn.Module, mode: Recompute) -> Iterator[None]:
    """Wrap the model's blocks while the body runs.

    Raises:
        ArrieroError: the model has no blocks to recompute.
    """
    blocks = wrap_blocks(model, mode)
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def check_recompute(model: nn.Module, mode: Recompute, narrow: bool) -> None:
    """
    Args:
        narrow: products are in fewer bits than the weights, which are cast for them.

    Raises:
        ArrieroError: blocks are applied more than once, and torch's selective checkpoint, which counts operations,
            stumbles over the weights' casts that the second time finds made.
    """
    layers = getattr(getattr(model, "config", None), "n_layers", 0)
    if mode == "selective" and narrow and layers > len(blocks_of(model)):
        raise ArrieroError(
            "activation_checkpointing selective does not go with layers that share their weights in bf16; "
            "take full or none, or precision fp32"
        )


def wrap_blocks(model: nn.Module, mode: Recompute) -> list[Block]:
    """Wrap the blocks for good, and return them; as :func:`recomputing`, for a model that is only traced."""
    if mode == "none":
        return []
    blocks = blocks_of(model)
    if not blocks:
        raise ArrieroError(
            f"activation_checkpointing {mode} works block by block, and {type(model).__name__} has no Transformer "
            "blocks; leave it at none"
        )
    for block in blocks:
        block.__dict__["forward"] = partial(_recomputed, block, block.forward, mode)
    return blocks


def _recomputed(block: Block, forward: Callable[..., Any], mode: Recompute, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    which = {"context_fn": _selective} if mode == "selective" else {}
    return checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=_draws(block, args), determinism_check="none",
        **which, **kwargs,
    )  # fmt: skip


def _draws(block: Block, args: tuple[Any, ...]) -> bool:
    """True where the block drops out, so that its random numbers must come again; a trace has none to keep."""
    known = all(values_known(x) for x in args if isinstance(x, torch.Tensor))
    return known and block.training and any(getattr(m, "dropout", 0) for m in block.modules())


def _selective() -> Any:
    return create_selective_checkpoint_contexts(_policy)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = getattr(operation, "_schema", None)
    short = name.name.split("::")[1] if name is not None else ""
    keep = short.startswith(_ATTENTION) or (short in _WEIGHTS and _level(args[_WEIGHTS[short]]))
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def _level(weight: torch.Tensor) -> bool:
    """True where a product's result is about as wide as its input."""
    wide, narrow = max(weight.shape), min(weight.shape)
    return wide <= _NARROW * narrow
