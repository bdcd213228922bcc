"""The passes of a training step against float64, and against torch's in the same dtype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from arriero.native import library
from arriero.native import training as native
from arriero.training.objectives.linear_head import scores_to_errors

pytestmark = pytest.mark.skipif(not native.takes(torch.zeros(1)), reason="no native passes on this machine")
DTYPES = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7}
SEEDS = st.integers(0, 2**31)


@pytest.fixture(params=[0, 1], ids=["integers", "processor"], autouse=True)
def rounding(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rounding to bfloat16 by integers and by the processor's own instruction, where it has one."""
    library.library().ar_training_rounding(request.param)
    yield
    library.library().ar_training_rounding(1)


def drawn(seed: int, *shape: int, spread: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * spread


def largest_error(found: Tensor, exact: Tensor) -> float:
    """Relative to the largest value."""
    return (
        float((found.double() - exact).abs().max() / exact.abs().max().clamp(min=1e-30))
        if exact.numel()
        else 0.0
    )


def with_threads(count: int, work: Any) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return work()
    finally:
        torch.set_num_threads(before)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.sampled_from(DTYPES), st.floats(0.01, 30), SEEDS)
def test_the_gate_and_its_gradients(n: int, dtype: torch.dtype, spread: float, seed: int) -> None:
    gate, up, gradient = (drawn(seed + i, n, spread=spread).to(dtype) for i in range(3))
    wide_gate, wide_up, wide = gate.double(), up.double(), gradient.double()
    share = torch.sigmoid(wide_gate)
    inner = wide_gate * share * wide_up
    of_gate = wide * wide_up * share * (1 + wide_gate * (1 - share))
    of_up = wide * wide_gate * share
    tolerance = {"rtol": 0.51 * ROUNDING[dtype] + 1e-6, "atol": 1e-30 + 1e-6 * spread**2}
    torch.testing.assert_close(native.gated(gate, up).double(), inner, **tolerance)
    found = native.gated_gradients(gate, up, gradient)
    torch.testing.assert_close(found[0].double(), of_gate, rtol=tolerance["rtol"], atol=2e-6 * spread**2)
    torch.testing.assert_close(found[1].double(), of_up, **tolerance)
    again = native.gated_gradients_and_again(gate, up, gradient)
    assert torch.equal(again[0], found[0]) and torch.equal(gradient, found[1])
    assert torch.equal(again[1], native.gated(gate, up))


def test_the_gate_at_the_ends_of_the_numbers() -> None:
    gate = torch.tensor([-torch.inf, -1e30, -200.0, -0.0, 0.0, 200.0, 1e30, torch.inf, torch.nan])
    for dtype in DTYPES:
        x = gate.to(dtype)
        assert torch.equal(native.gated(x, torch.ones_like(x)).isnan(), F.silu(x).isnan())
        torch.testing.assert_close(
            native.gated(x, torch.ones_like(x)).float(),
            F.silu(x).float(),
            equal_nan=True,
            rtol=1e-2,
            atol=1e-30,
        )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 200), st.integers(1, 300), st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.booleans(),
    st.floats(1e-3, 1e3), SEEDS,
)  # fmt: skip
def test_the_norm_and_its_gradients(
    rows: int,
    width: int,
    x_dtype: torch.dtype,
    y_dtype: torch.dtype,
    streamed: bool,
    spread: float,
    seed: int,
) -> None:
    x, weight = drawn(seed, rows, width, spread=spread).to(x_dtype), drawn(seed + 1, width)
    gradient = drawn(seed + 2, rows, width).to(y_dtype)
    stream = drawn(seed + 3, rows, width, spread=1 / spread).to(x_dtype) if streamed else None
    exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
    exact = exact_x * torch.rsqrt(exact_x.square().mean(-1, keepdim=True) + 1e-5) * exact_weight
    of_x, of_weight = torch.autograd.grad(exact, [exact_x, exact_weight], gradient.double())
    of_x = of_x if stream is None else of_x + stream.double()
    y, inverse = native.rms_norm(x, weight, 1e-5, y_dtype)
    assert (y.dtype, y.shape, inverse.shape) == (y_dtype, x.shape, (rows, 1))
    assert largest_error(y, exact.detach()) <= ROUNDING[y_dtype] + 1e-6
    assert torch.equal(native.rms_norm_again(x, inverse, weight, y_dtype), y)
    found = native.rms_norm_gradients(x, inverse, weight, gradient, stream)
    assert found[0].dtype == x_dtype and found[1].dtype == weight.dtype
    # both are sums whose terms may cancel, so that an error is measured by the terms
    terms = gradient.double() * weight.double() * inverse.double()
    torch.testing.assert_close(
        found[0].double(), of_x, rtol=0.51 * ROUNDING[x_dtype], atol=float(4e-6 * terms.abs().sum() + 1e-30)
    )
    terms = (gradient.double() * x.double() * inverse.double()).abs().sum(0)
    assert bool(((found[1] - of_weight).abs() <= 1e-6 * terms + 1e-30).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 400), st.sampled_from(DTYPES), st.floats(0.01, 100), SEEDS)
def test_the_loss_and_its_gradient(
    rows: int, vocab: int, dtype: torch.dtype, spread: float, seed: int
) -> None:
    scores = drawn(seed, rows, vocab, spread=spread).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, vocab, (rows,), generator=generator)
    scored = torch.rand(rows, generator=generator) < 0.8
    losses = F.cross_entropy(scores.double(), targets, reduction="none") if rows else torch.zeros(0).double()
    exact = torch.softmax(scores.double(), 1) - F.one_hot(targets, vocab) if rows else scores.double()
    total = native.scores_to_errors(scores, targets, scored)
    assert total.dtype == torch.float32 and total.shape == ()
    assert float(total) == pytest.approx(float(losses[scored].sum()), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(scores.double(), exact, rtol=0.51 * ROUNDING[dtype] + 1e-5, atol=1e-6)


def test_a_score_that_is_not_finite_reaches_the_loss() -> None:
    for bad in (torch.nan, torch.inf):
        for place in (0, 40, 69):
            scores = torch.zeros(3, 70)
            scores[1, place] = bad
            total = native.scores_to_errors(
                scores, torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)
            )
            assert (
                torch.isnan(total) and bool(scores[1].isnan().all()) and bool(scores[[0, 2]].isfinite().all())
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_have_the_same_bits_for_any_number_of_threads(dtype: torch.dtype) -> None:
    x, weight, gradient = drawn(0, 333, 205), drawn(1, 205), drawn(2, 333, 205).to(dtype)
    gate, up = drawn(3, 90_001).to(dtype), drawn(4, 90_001).to(dtype)
    targets, scored = torch.arange(333) % 205, torch.arange(333) % 3 > 0

    def work() -> list[Tensor]:
        y, inverse = native.rms_norm(x, weight, 1e-5, dtype)
        scores = gradient.clone()
        total = native.scores_to_errors(scores, targets, scored)
        return [
            y, inverse, *native.rms_norm_gradients(x, inverse, weight, gradient), native.gated(gate, up),
            *native.gated_gradients(gate, up, up), scores, total,
            native.add_narrow(x, gradient.bfloat16(), torch.empty_like(x)),
        ]  # fmt: skip

    for one, several in zip(with_threads(1, work), with_threads(3, work), strict=True):
        assert torch.equal(one, several)


def test_errors_are_no_larger_than_those_of_torchs_passes() -> None:
    scores = drawn(0, 64, 1000, spread=4.0).bfloat16()
    targets, scored = torch.arange(64), torch.ones(64, dtype=torch.bool)
    exact = torch.softmax(scores.double(), 1) - F.one_hot(targets, 1000)
    mine, theirs = scores.clone(), scores.clone()
    native.scores_to_errors(mine, targets, scored)
    with FlopCounterMode(display=False):  # who looks on sees torch's
        scores_to_errors(theirs, targets[:, None], scored[:, None])
    error = [(x.double() - exact).abs().mean() for x in (mine, theirs)]
    assert error[0] <= 1.001 * error[1]
    gate, up = drawn(1, 9999, spread=3.0).bfloat16(), drawn(2, 9999).bfloat16()
    wide = F.silu(gate.double()) * up.double()
    assert (native.gated(gate, up) - wide).abs().mean() < (F.silu(gate).mul_(up) - wide).abs().mean()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 70_000), SEEDS)
def test_sums(n: int, seed: int) -> None:
    wide, narrow = drawn(seed, n), drawn(seed + 1, n).bfloat16()
    expected = wide + narrow
    assert torch.equal(native.add_narrow(wide, narrow, wide), expected)


def test_whoever_looks_on_sees_torchs_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(3)
    assert (
        native.takes(x)
        and not native.takes(x.double())
        and not native.takes(x, torch.zeros(1, device="meta"))
    )
    with FlopCounterMode(display=False):
        assert not native.takes(x)
    monkeypatch.setenv(library.SWITCH, "0")
    assert not native.takes(x)
