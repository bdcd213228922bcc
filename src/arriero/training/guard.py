"""What a run leaves behind when it cannot go on: the step, and the state of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from arriero.artifacts.commit import write_json_atomic
from arriero.errors import ArrieroError


def refuse_to_go_on(
    why: str,
    *,
    loss: float,
    grad_norm: float,
    step: int,
    samples: Sequence[int],
    learning_rate: float,
    trained: Mapping[str, torch.nn.Parameter],
    folder: Path,
) -> ArrieroError:
    """The error to raise; a file beside it says which samples and which gradients it came from."""
    path = folder / f"bad-step-{step}.json"
    state = {
        name: {"largest_weight": float(p.detach().abs().max()), "gradient_finite": _finite(p.grad)}
        for name, p in trained.items()
    }
    write_json_atomic(
        path,
        {
            "step": step, "why": why, "loss": repr(loss), "grad_norm": repr(grad_norm), "samples": list(samples),
            "learning_rate": learning_rate, "parameters": state,
        },
    )  # fmt: skip
    advice = "a lower learning_rate or precision fp32"
    if math.isfinite(loss) and math.isfinite(grad_norm):
        advice = "a lower learning_rate, or health.outlier_sigma 0 where the data is meant to be that uneven"
    return ArrieroError(
        f"step {step}: {why}; training stopped before the weights took harm; try {advice} (details: {path})"
    )


def _finite(tensor: torch.Tensor | None) -> bool:
    return tensor is None or bool(torch.isfinite(tensor).all())
