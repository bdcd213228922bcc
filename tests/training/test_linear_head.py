"""The head's loss and gradient written out, against torch's cross-entropy."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from arriero.training.objectives import linear_head
from arriero.training.objectives.base import UNSCORED
from arriero.training.objectives.linear_head import linear_loss_sum, rows_at_once


@pytest.mark.parametrize("rows", [0, 1, 7, 64])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_it_is_cross_entropy(rows: int, biased: bool, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "CACHED_SCORES", 3 * 53)  # three rows at a time
    generator = torch.Generator().manual_seed(0)
    hidden = (torch.randn(41, 9, generator=generator) * spread).requires_grad_()
    weight = torch.randn(53, 9, generator=generator).requires_grad_()
    bias = torch.randn(53, generator=generator).requires_grad_() if biased else None
    targets = torch.randint(0, 53, (41,), generator=generator)
    targets[::5] = UNSCORED
    wanted = [hidden, weight] if bias is None else [hidden, weight, bias]
    found = linear_loss_sum(hidden, targets, weight, bias, rows)
    exact = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(found / 33, wanted), torch.autograd.grad(exact / 33, wanted), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * spread)


def test_the_scores_at_a_time_are_bounded_whatever_the_vocabulary() -> None:
    for vocab_size in (64, 32000, 128256, 1 << 26):
        for dtype in (torch.float32, torch.bfloat16):
            rows = rows_at_once(vocab_size, dtype)
            assert rows >= 1
            assert rows == 1 or rows * vocab_size * dtype.itemsize <= linear_head.BLOCK_BYTES
