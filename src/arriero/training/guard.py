"""What keeps a bad step from the weights: checks between the gradient and the update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError


def check_finite(
    loss: float,
    grad_norm: float,
    *,
    step: int,
    samples: list[int],
    learning_rate: float,
    trained: Mapping[str, torch.nn.Parameter],
    folder: Path,
) -> None:
    """Stop before an update that would spoil the weights, and leave a file that says where it came from.

    Raises:
        ArrieroError: loss or gradient is not finite.
    """
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    path = folder / f"not-finite-step-{step}.json"
    worst = {
        name: {"largest_weight": float(p.detach().abs().max()), "gradient_finite": _finite(p.grad)}
        for name, p in trained.items()
    }
    write_json_atomic(
        path,
        {
            "step": step, "loss": repr(loss), "grad_norm": repr(grad_norm), "samples": samples,
            "learning_rate": learning_rate, "parameters": worst,
        },
    )  # fmt: skip
    raise ArrieroError(
        f"step {step}: the loss is {loss:g} and the gradient's norm {grad_norm:g}, so training "
        f"stopped before the weights took harm; try a lower learning_rate or precision fp32 (details: {path})"
    )


def _finite(tensor: torch.Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())
