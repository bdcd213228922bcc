"""What the steps of optimizers have in common: the closure that works the loss out anew, and what there is to update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """What the closure gives, worked out with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def with_gradients(groups: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Tensor, Tensor, Mapping[str, Any]]]:
    """(parameter, its gradient, its group) of all parameters that have a gradient."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                yield p, p.grad, group
