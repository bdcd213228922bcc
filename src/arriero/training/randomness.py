"""Every generator that code in the loop could draw from: set, captured, put back."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch (dropout draws from it), numpy's legacy generator and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def capture(device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """(tensors, JSON) that hold the state of all generators."""
    # bytes are widened: the model's tensor files have no 8-bit integers
    tensors = {"random.torch": torch.get_rng_state().long()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device).long()
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors["random.numpy"] = torch.from_numpy(np.asarray(keys).astype(np.int64))
    version, words, gauss_next = random.getstate()
    state = {
        "numpy": [str(name), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), gauss_next],
    }
    return tensors, state


def restore(tensors: dict[str, torch.Tensor], state: dict[str, Any], device: torch.device) -> None:
    """Put back what :func:`capture` gave."""
    torch.set_rng_state(tensors["random.torch"].byte())
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"].byte(), device)
    name, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, tensors["random.numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, words, gauss_next = state["python"]
    random.setstate((version, tuple(words), gauss_next))
