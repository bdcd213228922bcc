"""Whether a tensor's values can be looked at, or it only stands for one while a plan is traced."""

from __future__ import annotations

import torch
from torch import Tensor


def values_known(tensor: Tensor) -> bool:
    """False for tensors on the meta device and for fake ones, whose values nobody has."""
    return type(tensor) is torch.Tensor and not tensor.is_meta
