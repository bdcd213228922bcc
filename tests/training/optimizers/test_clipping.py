"""Clipping by the joint norm, against torch's own."""

from __future__ import annotations

import pytest
import torch

from arriero.training.optimizers.adamw import make_adamw
from arriero.training.optimizers.clipping import clip_gradients
from arriero.training.settings import TrainSettings


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


@pytest.mark.parametrize("share", [0.0, 0.3, 2.0])
def test_a_step_that_scales_is_the_step_of_scaled_gradients(share: float) -> None:
    ours, theirs = parameters(3), parameters(3)
    mine, other = (
        make_adamw([{"params": given, "weight_decay": 0.1}], TrainSettings(learning_rate=0.1))
        for given in (ours, theirs)
    )
    limit = share * float(torch.nn.utils.get_total_norm([p.grad for p in ours if p.grad is not None]))
    for _ in range(3):
        assert torch.equal(clip_gradients(ours, limit, mine), clip_gradients(theirs, limit))
        mine.step()
        other.step()
        for p, q in zip(ours[:3], theirs[:3], strict=True):
            p.grad = q.grad = torch.randn(p.shape) * (limit or 1.0)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        for name in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(mine.state[p][name], other.state[q][name], rtol=1e-5, atol=1e-7)


def test_a_scale_serves_one_step() -> None:
    given = parameters(4)
    optimizer = make_adamw([{"params": given}], TrainSettings())
    clip_gradients(given, 1e-3, optimizer)
    assert optimizer.grad_scale is not None  # type: ignore[attr-defined]
    for p in given[:3]:
        p.grad = torch.full_like(p, 1e-6)
    clip_gradients(given, 1.0, optimizer)
    assert optimizer.grad_scale is None  # type: ignore[attr-defined]


def test_an_optimizer_that_cannot_scale_gets_scaled_gradients() -> None:
    given = parameters(5)
    clip_gradients(given, 1e-3, torch.optim.SGD(given, lr=0.1))
    norm = torch.nn.utils.get_total_norm([p.grad for p in given if p.grad is not None])
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
