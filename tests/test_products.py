"""The products that models use: the same numbers and gradients whichever library does them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero import products


@pytest.fixture(params=["onednn", "blas"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(products.SETTING, request.param)
    products.uses_onednn.cache_clear()
    yield request.param
    products.uses_onednn.cache_clear()


@pytest.mark.parametrize(
    "shape", [(1, 5), (3, 7), (17, 6), (2, 3, 8), (4, 16, 9), (5, 13, 33), (64, 24), (2, 2, 8, 10)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients(library: str, shape: tuple[int, ...], bias: bool) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    x = torch.randn(*shape, generator=generator)
    weight = torch.randn(11, shape[-1], generator=generator)
    offset = torch.randn(11, generator=generator) if bias else None
    given = [t for t in (x, weight, offset) if t is not None]
    ours = [t.clone().requires_grad_() for t in given]
    exact = [t.double().requires_grad_() for t in given]
    out, expected = products.linear(*ours), F.linear(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(products.linear(*given), out.detach())
    gradient = torch.randn(out.shape, generator=generator)
    out.backward(gradient)
    expected.backward(gradient.double())
    for mine, right in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=1e-5, atol=1e-5)


def test_views_and_frozen_weights(library: str) -> None:
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(6, 32, 40, generator=generator)
    weight = torch.randn(40, 7, generator=generator).t()
    x = whole.transpose(0, 1).requires_grad_()
    torch.testing.assert_close(products.linear(x, weight), F.linear(x, weight), rtol=1e-5, atol=1e-4)
    products.linear(x, weight).sum().backward()
    assert weight.grad is None and whole.grad is None
    a, b = torch.randn(16, 32, generator=generator).t(), torch.randn(16, 5, generator=generator)
    torch.testing.assert_close(products.matmul(a, b), a @ b, rtol=1e-5, atol=1e-4)


def test_what_onednn_is_not_asked_for(library: str) -> None:
    assert products.uses_onednn() == (library == "onednn")
    weight = torch.randn(4, 8)
    for x in (torch.randn(0, 8), torch.randn(3, 8, dtype=torch.float64), torch.randn(33, 8)):
        assert products.linear(x, weight.to(x.dtype)).shape == (len(x), 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert products.linear(torch.randn(16, 8), weight).dtype == torch.bfloat16
    with FakeTensorMode():
        fake = products.linear(torch.empty(16, 8, requires_grad=True), torch.empty(4, 8, requires_grad=True))
        fake.sum().backward()
        assert fake.shape == (16, 4)


@pytest.mark.parametrize(
    ("maker", "flags", "library"),
    [
        ("AuthenticAMD", "sse2 avx2 avx512f", "onednn"), ("AuthenticAMD", "sse2 avx2", "blas"),
        ("GenuineIntel", "sse2 avx2 avx512f", "blas"), (None, "", "blas"),
    ],
)  # fmt: skip
def test_the_choice_depends_on_the_processor_alone(
    maker: str | None, flags: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path, **how: str) -> str:
        if maker is None:
            raise FileNotFoundError(path)
        return f"processor\t: 0\nvendor_id\t: {maker}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"

    monkeypatch.delenv(products.SETTING, raising=False)
    monkeypatch.setattr(
        products, "Path", lambda path: SimpleNamespace(read_text=lambda **how: read_text(path))
    )
    products._is_amd_with_avx512.cache_clear()
    assert products.float32_library() == library
    products._is_amd_with_avx512.cache_clear()
