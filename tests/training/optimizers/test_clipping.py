"""Clipping by the joint norm, against torch's own."""

from __future__ import annotations

import pytest
import torch

from arriero.training.optimizers.clipping import clip_gradients


def parameters(seed: int) -> list[torch.nn.Parameter]:
    """Three trained parameters with gradients, and one that has none."""
    torch.manual_seed(seed)
    found = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 5), (7,), (2, 2), (4,))]
    for p in found[:3]:
        p.grad = torch.randn(p.shape)
    return found


@pytest.mark.parametrize("share", [0.3, 0.9999999, 1.0, 1.0000001, 2.0])
def test_it_is_torchs_to_the_bit_on_either_side_of_the_limit(share: float) -> None:
    ours, theirs = parameters(0), parameters(0)
    norm = torch.nn.utils.get_total_norm([p.grad for p in theirs if p.grad is not None])
    limit = share * float(norm)
    assert torch.equal(torch.nn.utils.clip_grad_norm_(theirs, limit), norm)
    assert torch.equal(clip_gradients(ours, limit), norm)
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        assert mine.grad is not None and other.grad is not None
        assert torch.equal(mine.grad, other.grad)


def test_without_a_limit_nothing_is_scaled() -> None:
    given, before = parameters(1), parameters(1)
    clip_gradients(given, 0.0)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(given[:3], before[:3], strict=True))  # type: ignore[arg-type]


def test_a_norm_that_is_not_finite_reaches_the_caller() -> None:
    given = parameters(2)
    assert given[0].grad is not None
    given[0].grad[0, 0] = torch.nan
    assert torch.isnan(clip_gradients(given, 1.0))
