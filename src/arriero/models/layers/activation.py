"""Non-linearities by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor


def quick_gelu(x: Tensor) -> Tensor:
    """``x sigmoid(1.702 x)`` (Hendrycks & Gimpel, arXiv 1606.08415, section 2): MindSpore's FastGelu."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_quick": quick_gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}
"""``gelu`` is exact, ``gelu_tanh`` the approximation of GPT-2, ``gelu_quick`` a rougher one (Hendrycks & Gimpel, arXiv 1606.08415)."""
