"""Non-linearities by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "tanh": torch.tanh,
}
"""``gelu`` is exact, ``gelu_tanh`` the approximation of GPT-2 (Hendrycks & Gimpel, arXiv 1606.08415)."""
