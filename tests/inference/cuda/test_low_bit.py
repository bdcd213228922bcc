"""Products with codes against the weights that they stand for, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.models.layers.packing import pack
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme


def layer_of(
    bits: int, group: int | None, inputs: int, outputs: int, bias: bool, seed: int, device: str
) -> QuantizedLinear:
    generator = torch.Generator().manual_seed(seed)
    scheme = WeightScheme(bits, group)
    layer = QuantizedLinear(inputs, outputs, scheme, bias=bias)
    codes = torch.randint(-scheme.largest - 1, scheme.largest + 1, (outputs, inputs), generator=generator)
    layer.weight_packed = pack(codes.to(torch.int8), bits)
    layer.weight_scale = torch.rand(layer.weight_scale.shape, generator=generator)
    if bias:
        layer.bias = torch.randn(outputs, generator=generator)
    return layer.to(device)


def exactly(layer: QuantizedLinear, x: Tensor) -> Tensor:
    y = x.double() @ layer.dequantised(torch.float64).t()
    return y if layer.bias is None else y + layer.bias.double()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from([4, 8]),
    grouping=st.sampled_from(
        [(32, 32), (96, 32), (192, 64), (192, 96), (384, 128), (133, None), (300, None)]
    ),
    outputs=st.integers(1, 70),
    rows=st.integers(1, 40),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_float32(
    device: str, bits: int, grouping: tuple[int, int | None], outputs: int, rows: int, bias: bool, seed: int
) -> None:
    from arriero.inference.cuda import low_bit

    layer = layer_of(bits, grouping[1], grouping[0], outputs, bias, seed, device)
    assert low_bit.takes(layer)
    x = torch.randn(rows, layer.in_features, generator=torch.Generator().manual_seed(seed)).to(device)
    found, expected = low_bit.product(layer, x), exactly(layer, x)
    torch.testing.assert_close(found.double(), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_bfloat16(device: str, bits: int) -> None:
    from arriero.inference.cuda import low_bit

    layer = layer_of(bits, 64, 256, 48, True, 1, device)
    x = torch.randn(2, 3, 256, generator=torch.Generator().manual_seed(1)).to(device, torch.bfloat16)
    found, expected = low_bit.product(layer, x), exactly(layer, x)
    assert found.dtype == torch.bfloat16
    assert found.shape == (2, 3, 48)
    torch.testing.assert_close(found.double(), expected, atol=1e-2 * float(expected.abs().max()), rtol=1e-2)


def test_rows_of_a_larger_tensor(device: str) -> None:
    from arriero.inference.cuda import low_bit

    layer = layer_of(4, 32, 64, 20, False, 2, device)
    wide = torch.randn(7, 100, device=device)
    expected = exactly(layer, wide[:, 10:74])
    torch.testing.assert_close(
        low_bit.product(layer, wide[:, 10:74]).double(), expected, atol=1e-4, rtol=1e-5
    )
    torch.testing.assert_close(
        low_bit.product(layer, wide[:, 10:74].t().contiguous().t()).double(), expected, atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("rows", [0, 65])
def test_what_the_kernel_does_not_do_torch_does(device: str, rows: int) -> None:
    from arriero.inference.cuda import low_bit

    layer = layer_of(4, 16 if rows else 32, 64, 20, True, 2, device)
    assert low_bit.takes(layer) == (rows == 0)
    x = torch.randn(rows, 64, device=device)
    torch.testing.assert_close(low_bit.product(layer, x).double(), exactly(layer, x), atol=1e-4, rtol=1e-5)


def test_bits_of_a_row_do_not_depend_on_the_rows_beside_it(device: str) -> None:
    from arriero.inference.cuda import low_bit

    layer = layer_of(4, 32, 128, 40, False, 2, device)
    x = torch.randn(50, 128, device=device)
    whole = low_bit.product(layer, x)
    for row in (0, 17, 49):
        assert torch.equal(low_bit.product(layer, x[row : row + 1])[0], whole[row])
