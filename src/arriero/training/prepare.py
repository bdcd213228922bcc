"""What settings do to a model for as long as it is trained: its device, products in float8, activation checkpointing,
compilation. All of it is taken back afterwards; names and values of the parameters stay as they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from arriero.models.layers.float8 import float8_products
from arriero.training.compiled import compiled_blocks
from arriero.training.precision import Arithmetic
from arriero.training.recompute import check_recompute, recomputing
from arriero.training.settings import TrainSettings


@contextmanager
def prepared(model: nn.Module, settings: TrainSettings, arithmetic: Arithmetic) -> Iterator[None]:
    """Have the model's blocks run as the settings say while the body runs.

    Raises:
        ArrieroError: the model or the device cannot do what is asked.
    """
    check_recompute(model, settings.activation_checkpointing, arithmetic.precision != "fp32")
    with (
        float8_products(model, arithmetic.precision == "fp8"),
        recomputing(model, settings.activation_checkpointing),
        compiled_blocks(model, settings.compile),
    ):
        yield


@contextmanager
def on_device(model: nn.Module, device: str) -> Iterator[None]:
    """Have the model on ``device`` while the body runs, and then where it was before.

    Of several GPUs each process takes the one that torchrun numbered it with (LOCAL_RANK).
    """
    before = next(model.parameters()).device
    after = torch.device(device)
    if after.type == "cuda":
        after = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(after)
        torch.set_float32_matmul_precision("high")
    if before.type == "cpu" and after.type == "cpu":
        yield
        return
    model.to(after)
    try:
        yield
    finally:
        model.to(before)
