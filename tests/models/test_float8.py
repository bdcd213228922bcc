"""Products in float8 against float32, on torch's CPU kernel."""

from __future__ import annotations

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.layers.float8 import float8_linear


def _far(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found.float() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(32, 64, 48), (7, 128, 96), (50, 16, 16)])
def test_forward_and_backward_are_within_the_formats_error(rows: int, inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, rows, inputs, generator=generator) * 30).requires_grad_()
    weight = (torch.randn(outputs, inputs, generator=generator) * 0.02).requires_grad_()
    bias = torch.randn(outputs, generator=generator).requires_grad_()
    gradient = torch.randn(2, rows, outputs, generator=generator) * 1e-4
    found = float8_linear(x, weight, bias)
    found_gradients = torch.autograd.grad(found, [x, weight, bias], gradient.bfloat16())
    exact = torch.nn.functional.linear(x, weight, bias)
    exact_gradients = torch.autograd.grad(exact, [x, weight, bias], gradient)
    # e4m3 rounds to 3 bits after the first, e5m2 to 2: at most 1/16 and 1/8 of a value, less in the mean
    assert found.dtype == torch.bfloat16
    assert _far(found, exact) < 0.06
    assert [_far(a, b) < 0.09 for a, b in zip(found_gradients, exact_gradients, strict=True)] == [True] * 3


def test_zeros_are_zeros() -> None:
    assert not float8_linear(torch.zeros(16, 16), torch.randn(16, 16)).any()


def test_odd_widths_are_refused() -> None:
    with pytest.raises(ArrieroError, match="multiples of 16"):
        float8_linear(torch.zeros(16, 24), torch.zeros(32, 24))
