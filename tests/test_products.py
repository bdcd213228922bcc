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


@pytest.fixture(params=[True, False])
def widening(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is one without products in bfloat16."""
    monkeypatch.setattr(products, "_has_bfloat16", lambda: not request.param)
    return request.param


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_is_rounded_once(widening: bool, autocast: bool, bias: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    exact = [torch.randn(*s, generator=generator).bfloat16().double() for s in [(2, 9, 70), (13, 70), (13,)]]
    exact = [part.requires_grad_() for part in exact[: 2 + bias]]
    ours = [
        part.detach().to(torch.float32 if autocast else torch.bfloat16).requires_grad_() for part in exact
    ]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = products.linear(*ours)
        with torch.no_grad():
            assert torch.equal(products.linear(*ours), out)
    expected = F.linear(*exact)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), expected, rtol=2**-8, atol=1e-3)
    gradient = torch.randn(out.shape, generator=generator).bfloat16()
    out.backward(gradient)
    expected.backward(gradient.double())
    for mine, right in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), right.grad, rtol=2**-7, atol=2e-2)


def test_bfloat16_matrices(widening: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.randn(*s, generator=generator).bfloat16() for s in [(3, 20, 50), (3, 50, 8)])
    exact = a.double() @ b.double()
    assert products.widens(a, b) == widening
    for found, right in ((products.batched(a, b), exact), (products.matmul(a[0], b[0]), exact[0])):
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), right, rtol=2**-8, atol=1e-3)
    few, weight = torch.ones(3, 50).bfloat16(), a[0]  # of few rows a product is torch's own
    assert torch.equal(products.linear(few, weight), F.linear(few, weight))
    if widening:  # of the float32 sum: half a unit of the last place of bfloat16
        sums = (a.float() @ b.float()).bfloat16()
        assert torch.equal(products.batched(a, b), sums)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(products.batched(a, b), sums)


def test_what_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_bfloat16", lambda: False)
    narrow, wide = torch.ones(4, 4, dtype=torch.bfloat16), torch.ones(4, 4)
    assert products.widens(narrow, narrow) and not products.widens(wide, wide)
    assert not products.widens(narrow.double(), narrow.double())
    assert not products.widens(narrow.to("meta"), narrow.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert products.widens(wide, narrow)
    with torch.autocast("cpu", torch.float16):
        assert not products.widens(narrow, narrow)
    with FakeTensorMode():  # may be a plan for a device that has such products
        fake = torch.empty(4, 4, dtype=torch.bfloat16)
        assert not products.widens(fake, fake)
        with products.traced_here():
            assert products.widens(fake, fake)
        assert not products.widens(fake, fake)
