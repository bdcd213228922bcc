from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.layers.packing import pack, packed_columns, unpack
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme

sizes = st.tuples(st.integers(1, 6), st.integers(1, 70))


def random_codes(rows: int, columns: int, bits: int, seed: int) -> torch.Tensor:
    half = 1 << (bits - 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-half, half, (rows, columns), generator=generator, dtype=torch.int8)


@given(sizes, st.sampled_from([4, 8]), st.integers(0, 1000))
def test_unpack_inverts_pack(size: tuple[int, int], bits: int, seed: int) -> None:
    codes = random_codes(*size, bits, seed)
    packed = pack(codes, bits)
    assert packed.dtype == torch.int32 and packed.shape == (size[0], packed_columns(size[1], bits))
    assert torch.equal(unpack(packed, bits, size[1]), codes)


@pytest.mark.parity
@settings(deadline=None)
@given(sizes, st.sampled_from([4, 8]), st.integers(0, 1000))
def test_packing_is_that_of_compressed_tensors(size: tuple[int, int], bits: int, seed: int) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes = random_codes(*size, bits, seed)
    assert torch.equal(pack(codes, bits), helpers.pack_to_int32(codes, bits))


@pytest.mark.parametrize(("bits", "group_size"), [(8, None), (4, 8), (4, None), (8, 4)])
def test_layer_is_codes_times_scales(bits: int, group_size: int | None) -> None:
    layer = QuantizedLinear(24, 5, WeightScheme(bits, group_size))
    codes = random_codes(5, 24, bits, seed=1)
    layer.weight_packed.copy_(pack(codes, bits))
    layer.weight_scale.copy_(torch.rand(layer.weight_scale.shape, generator=torch.Generator().manual_seed(2)))
    weight = codes.float() * layer.weight_scale.repeat_interleave(group_size or 24, dim=1)
    assert torch.equal(layer.dequantised(torch.float32), weight)
    x = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer(x), x @ weight.T)


def test_group_that_does_not_divide() -> None:
    with pytest.raises(ArrieroError, match="group_size 64 does not divide the 224 inputs of q_proj; 32 does"):
        QuantizedLinear(224, 8, WeightScheme(4, 64), where="q_proj")
    with pytest.raises(ArrieroError, match="use one scale per channel"):
        QuantizedLinear(225, 8, WeightScheme(4, 64), where="q_proj")
