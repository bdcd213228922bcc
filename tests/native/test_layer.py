"""Layers with low-bit weights: when they take the native product, and that they take it for the right weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from arriero.models.layers.packing import pack
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme
from arriero.native import library
from arriero.native.linear import exact_products, takes

pytestmark = pytest.mark.usefixtures("native")


def layer_of(bits: int = 4, group: int | None = 32, n: int = 40, k: int = 96) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(1)
    layer = QuantizedLinear(k, n, WeightScheme(bits, group), bias=True)
    half = 1 << (bits - 1)
    layer.weight_packed.copy_(
        pack(torch.randint(-half, half, (n, k), generator=generator, dtype=torch.int8), bits)
    )
    layer.weight_scale.copy_(torch.rand(layer.weight_scale.shape, generator=generator))
    assert layer.bias is not None
    layer.bias.copy_(torch.randn(n, generator=generator))
    return layer


X = torch.randn(2, 3, 96, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, None), (8, 96), (8, None)])
def test_inference_is_near_and_exact_products_are_exact(bits: int, group: int | None) -> None:
    layer = layer_of(bits, group)
    exact = X @ layer.dequantised(torch.float32).T + layer.bias
    with torch.no_grad():
        native = layer(X)
        with exact_products():
            torch.testing.assert_close(layer(X), exact)
        assert torch.equal(layer(X), native)
    assert not torch.allclose(native, exact)
    assert 0 < (native - exact).norm() / exact.norm() < 0.01
    torch.testing.assert_close(layer(X), exact)  # gradients are on: as in training


def test_the_switch_makes_products_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layer_of()
    monkeypatch.setenv(library.SWITCH, "0")
    with torch.no_grad():
        torch.testing.assert_close(layer(X), X @ layer.dequantised(torch.float32).T + layer.bias)


def test_groups_without_a_native_product_are_dequantised() -> None:
    layer = layer_of(4, 16)
    with torch.inference_mode():
        torch.testing.assert_close(layer(X), X @ layer.dequantised(torch.float32).T + layer.bias)


def test_what_is_not_taken() -> None:
    assert not takes(X), "gradients are on"
    with torch.no_grad():
        assert takes(X) and takes(X.bfloat16())
        assert not takes(X.double()) and not takes(X.to("meta"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not takes(X)
        with FakeTensorMode() as mode:
            assert not takes(mode.from_tensor(X)) and not takes(X), "plans count torch's operations"


def test_changed_weights_are_packed_anew() -> None:
    layer = layer_of()
    with torch.no_grad():
        before = layer(X) - layer.bias
        layer.weight_scale.mul_(2)
        torch.testing.assert_close(layer(X) - layer.bias, 2 * before)
        layer.load_state_dict(layer_of().state_dict())
        torch.testing.assert_close(layer(X) - layer.bias, before)
        layer.weight_packed.zero_()  # the lowest code everywhere
        with exact_products():
            exact = layer(X)
        torch.testing.assert_close(layer(X), exact, rtol=0.02, atol=0.5)
        layer.weight_scale = layer.weight_scale * 0
        torch.testing.assert_close(layer(X), layer.bias.expand(2, 3, -1))


def test_copies_compute_the_same() -> None:
    layer = layer_of()
    with torch.inference_mode():
        expected = layer(X)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert torch.equal(other(X), expected)


def test_nothing_is_added_to_what_is_stored() -> None:
    layer = layer_of()
    with torch.inference_mode():
        layer(X)
    assert set(layer.state_dict()) == {"weight_packed", "weight_scale", "weight_shape", "bias"}
