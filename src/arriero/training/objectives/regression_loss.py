"""Losses of numbers: squared, absolute and Huber's, weighted."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Loss = Literal["squared", "absolute", "huber"]


def error_sum(found: Tensor, wanted: Tensor, weights: Tensor | None, loss: Loss, delta: float) -> Tensor:
    """Sum of the weighted losses, fp32; all tensors of one shape (``weights``: of one that broadcasts).

    squared: e^2. absolute: |e|. huber (Huber 1964): e^2 / 2 up to |e| = delta, from there on delta (|e| - delta / 2).
    What has weight 0 has no part in it, whatever stands there (not a number, too).
    """
    found, wanted = found.float(), wanted.float()
    if weights is not None:
        weights = weights.float().expand_as(wanted)
        counts = weights != 0
        found, wanted = found.masked_fill(~counts, 0.0), wanted.masked_fill(~counts, 0.0)
    if loss == "squared":
        each = (found - wanted).square()
    elif loss == "absolute":
        each = (found - wanted).abs()
    else:
        each = F.huber_loss(found, wanted, reduction="none", delta=delta)
    return each.sum() if weights is None else (each * weights).sum()
