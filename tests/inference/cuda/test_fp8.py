"""float8 products: the arithmetic by torch's own row-scaled product on a processor, and who is refused."""

from __future__ import annotations

import pytest
import torch

from arriero.inference.cuda import fp8
from arriero.models.layers.linear import Linear


def layer_of(inputs: int, outputs: int, bias: bool, device: str = "cpu") -> Linear:
    layer = Linear(inputs, outputs, bias).to(device, torch.bfloat16).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def test_codes_and_scales() -> None:
    x = torch.randn(9, 33, generator=torch.Generator().manual_seed(0)) * torch.logspace(-20, 20, 9)[:, None]
    codes, scales = fp8.quantise_rows(x)
    assert codes.dtype == torch.float8_e4m3fn
    assert scales.shape == (9, 1)
    torch.testing.assert_close(codes.float().abs().amax(1), torch.full((9,), 448.0))
    # three binary digits behind the point: off by a 16th at most, or by half a step of the smallest numbers
    error = (codes.float() * scales - x).abs()
    assert (error <= torch.maximum(x.abs() / 16, scales * 2**-10) * 1.0001).all()
    codes, scales = fp8.quantise_rows(torch.zeros(2, 16))
    assert codes.float().eq(0).all()
    assert scales.isfinite().all()


def check_product(device: str, bias: bool) -> None:
    layer = layer_of(64, 48, bias, device)
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1)).to(device, torch.bfloat16)
    found = fp8.Float8Weight(layer).product(x)
    assert found.dtype == torch.bfloat16
    assert found.shape == (2, 5, 48)
    parts = []
    for matrix in (x.view(-1, 64), layer.weight):
        codes, scales = fp8.quantise_rows(matrix)
        parts.append(codes.double() * scales.double())
    emulated = parts[0] @ parts[1].t() + (layer.bias.double() if bias else 0)
    torch.testing.assert_close(found.double().view(10, 48), emulated, atol=0.1, rtol=1e-2)
    exact = layer(x).double()
    assert (found.double() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize("bias", [False, True])
def test_products(bias: bool) -> None:
    check_product("cpu", bias)


@pytest.mark.gpu
@pytest.mark.parametrize("bias", [False, True])
def test_products_on_hopper(bias: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    reason = fp8.why_not(torch.device("cuda"), torch.bfloat16)
    if reason is not None:
        pytest.skip(reason)
    check_product("cuda", bias)


def test_which_layers() -> None:
    assert fp8.Float8Weight.takes(layer_of(32, 16, True))
    assert not fp8.Float8Weight.takes(layer_of(40, 16, True))
    assert not fp8.Float8Weight.takes(layer_of(32, 20, True))
    assert not fp8.Float8Weight.takes(torch.nn.LayerNorm(16))


def test_who_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "this is cpu" in (fp8.why_not(torch.device("cpu"), torch.bfloat16) or "")
    capability = (8, 9)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU X")
    assert "GPU X has 8.9" in (fp8.why_not(torch.device("cuda"), torch.bfloat16) or "")
    capability = (9, 0)
    assert "float16" in (fp8.why_not(torch.device("cuda"), torch.float16) or "")
    assert fp8.why_not(torch.device("cuda"), torch.bfloat16) is None
