"""The native rotation against the same in float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from arriero.cost.trace import trace
from arriero.models.layers import native_rotary
from arriero.models.layers.rotary import Rotary, rotate
from arriero.native import library
from arriero.native import rotary as native

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the processor has no AVX512_BF16, or no library"
)


def exact(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    width = cos.shape[-1]
    turning, rest = x.double()[..., :width], x.double()[..., width:]
    turned = turning * cos.double() + direction * turning.roll(width // 2, dims=-1) * sin.double()
    return torch.cat([turned, rest], dim=-1)


@pytest.mark.parametrize(
    ("width", "beyond", "layout", "placed"),
    list(
        itertools.product(
            [2, 20, 32, 64, 100], [0, 7, 64], ["heads last", "contiguous", "part"], [False, True]
        )
    ),
)
def test_it_is_the_rotation(width: int, beyond: int, layout: str, placed: bool) -> None:
    generator = torch.Generator().manual_seed(width)
    dim, batch, heads, length = width + beyond, 2, 3, 19
    x = torch.randn(batch, length, heads, dim, generator=generator).bfloat16()
    x = {"heads last": x, "contiguous": x, "part": x.repeat(1, 2, 2, 1)[:, 3 : 3 + length, 1:4]}[
        layout
    ].transpose(1, 2)
    x = (x.contiguous() if layout == "contiguous" else x).detach().requires_grad_()
    positions = torch.randint(0, 40, (batch, length), generator=generator) if placed else None
    tables = Rotary(width, 40, 10000.0)(length, positions)
    assert native_rotary.takes(x, *tables)
    gradient = torch.randn(x.shape, generator=generator).bfloat16()
    out = rotate(x, *tables)
    (back,) = torch.autograd.grad(out, x, gradient)
    for found, right in ((out, exact(x.detach(), *tables, 1)), (back, exact(gradient, *tables, -1))):
        assert found.shape == x.shape
        assert found.dtype == torch.bfloat16
        assert ((found.double() - right).abs() <= right.abs() * 2**-8 + 1e-6).all(), "one rounding"


def test_it_agrees_with_torchs_operations_and_any_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 50, 4, 64, generator=torch.Generator().manual_seed(0)).bfloat16().transpose(1, 2)
    tables = Rotary(64, 64, 500000.0)(50, None)
    found = rotate(x, *tables)
    torch.set_num_threads(3)
    assert torch.equal(found, rotate(x, *tables))
    monkeypatch.setenv(library.SWITCH, "0")
    assert not native_rotary.takes(x, *tables)
    plain = rotate(x, *tables)
    assert plain.stride() == found.stride()
    assert (plain != found).float().mean() < 0.01, "a tie may fall the other way"


def test_a_trace_without_memory_knows_what_is_allocated() -> None:
    def make() -> list[torch.Tensor]:
        return [
            torch.ones(2, 40, 6, 32, dtype=torch.bfloat16).requires_grad_(),
            *Rotary(32, 40, 1e4)(40, None),
        ]

    def run(state: list[torch.Tensor]) -> list[torch.Tensor]:
        turned = rotate(state[0].transpose(1, 2), *state[1:])
        return [turned, *torch.autograd.grad(turned.sum(), state[0])]

    fake, real = trace(make, run), trace(make, run, fake=False)
    assert (fake.peak_bytes, fake.end_bytes, fake.bytes) == (real.peak_bytes, real.end_bytes, real.bytes)
    assert "rotate" in {op.name for op in real.ops}


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 2, 5, 32, dtype=torch.bfloat16)
    tables = Rotary(32, 8, 1e4)(5, None)
    assert native_rotary.takes(x, *tables)
    assert not native_rotary.takes(x.float(), *tables)
    assert not native_rotary.takes(x.transpose(2, 3).contiguous().transpose(2, 3), *tables), (
        "its heads lie apart"
    )
    assert rotate(x[:0], *tables).shape == (0, 2, 5, 32)
