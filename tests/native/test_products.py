"""Native products against exact arithmetic, at every level that the processor has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.native import library
from arriero.native.linear import linear
from arriero.native.matrices import NativeMatrix, codes_of, dense, low_bit, low_bit_packed

pytestmark = pytest.mark.usefixtures("native")
within_fixture = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_codes(n: int, k: int, bits: int, seed: int) -> Tensor:
    half = 1 << (bits - 1)
    return torch.randint(-half, half, (n, k), generator=drawn(seed), dtype=torch.int8)


def random_weight(n: int, k: int, bits: int, group: int, seed: int) -> tuple[Tensor, Tensor]:
    scales = torch.rand(n, k // group, generator=drawn(seed + 1)) + 0.01
    return random_codes(n, k, bits, seed), scales


def rounded(x: Tensor) -> Tensor:
    """What the int8 activations stand for, in float64: groups of 32 inputs, scale amax / 127."""
    k = x.shape[1]
    groups = F.pad(x, (0, -k % 32)).view(len(x), -1, 32)
    scale = groups.abs().amax(2, keepdim=True) / 127
    codes = torch.where(scale > 0, groups * (1 / scale), 0).round()
    return (codes.double() * scale.double()).view(len(x), -1)[:, :k]


def weight_of(codes: Tensor, scales: Tensor) -> Tensor:
    return codes.double() * scales.double().repeat_interleave(codes.shape[1] // scales.shape[1], dim=1)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    """n, k and a group that fits: 32, 64, 96, 128, or the whole row, which may have any length."""
    n = draw(st.integers(1, 70))
    if draw(st.booleans()):
        k = draw(st.integers(1, 200))
        return n, k, k
    group = draw(st.sampled_from([32, 64, 96, 128]))
    return n, group * draw(st.integers(1, 5)), group


@within_fixture
@given(shapes(), st.sampled_from([4, 8]), st.integers(1, 17), st.booleans(), st.integers(0, 999))
def test_low_bit_is_the_product_of_rounded_activations(
    level: str, shape: tuple[int, int, int], bits: int, m: int, biased: bool, seed: int
) -> None:
    n, k, group = shape
    codes, scales = random_weight(n, k, bits, group, seed)
    bias = torch.randn(n, generator=drawn(seed)) if biased else None
    x = torch.randn(m, k, generator=drawn(seed)) * torch.rand(m, 1, generator=drawn(seed)) * 10
    y = linear(x, low_bit(codes, scales, bits, bias)).double()
    weight = weight_of(codes, scales)
    offset = 0 if bias is None else bias.double()
    sizes = x.double().abs() @ weight.abs().T + 1
    assert ((y - (rounded(x) @ weight.T + offset)).abs() <= 1e-6 * sizes).all(), "float32 rounding alone"
    half_a_step = F.pad(x, (0, -k % 32)).view(m, -1, 32).abs().amax(2) / 254
    bound = half_a_step.repeat_interleave(32, dim=1)[:, :k].double() @ weight.abs().T
    assert ((y - (x.double() @ weight.T + offset)).abs() <= bound + 1e-6 * sizes).all()


@within_fixture
@given(
    st.integers(1, 40), st.integers(1, 90), st.sampled_from([4, 8]), st.integers(1, 9), st.integers(0, 999)
)
def test_integer_part_is_exact(level: str, n: int, k: int, bits: int, m: int, seed: int) -> None:
    """With scales of one nothing is rounded, and the extremes of both ranges are there."""
    codes = random_codes(n, k, bits, seed)
    codes[0] = -(1 << (bits - 1))
    x = torch.randint(-127, 128, (m, k), generator=drawn(seed)).float()
    x[:, ::32] = 127  # the scale of every group is 1
    x[0] = -127
    y = linear(x, low_bit(codes, torch.ones(n, 1), bits)).numpy()
    assert np.array_equal(y, x.numpy().astype(np.int64) @ codes.numpy().astype(np.int64).T)


@within_fixture
@given(
    st.integers(1, 30), st.integers(1, 130), st.integers(1, 19),
    st.sampled_from([torch.float32, torch.bfloat16]), st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_dense(level: str, n: int, k: int, m: int, dtype: torch.dtype, biased: bool, seed: int) -> None:
    weight, x = (
        torch.randn(n, k, generator=drawn(seed)).to(dtype),
        torch.randn(m, k, generator=drawn(seed + 1)),
    )
    bias = torch.randn(n, generator=drawn(seed)) if biased else None
    y = linear(x, dense(weight, bias)).double()
    rounds = dtype == torch.bfloat16 and library.rounds_activations_to_bf16()
    inputs = (x.bfloat16() if rounds else x).double()
    expected = inputs @ weight.double().T + (0 if bias is None else bias.double())
    sizes = inputs.abs() @ weight.double().abs().T + 1
    assert ((y - expected).abs() <= 1e-6 * sizes).all()


def all_kinds(n: int, k: int, seed: int = 0) -> dict[str, NativeMatrix]:
    weight = torch.randn(n, k, generator=drawn(seed))
    bias = torch.randn(n, generator=drawn(seed))
    made = {"fp32": dense(weight, bias), "bf16": dense(weight.bfloat16(), bias)}
    for bits in (4, 8):
        for group in (32, 64, k):
            made[f"int{bits} group {group}"] = low_bit(*random_weight(n, k, bits, group, seed), bits, bias)
    return made


def test_low_bit_has_the_same_bits_at_every_level() -> None:
    before, found = library.level(), []
    x = torch.randn(11, 192, generator=drawn(3)) * 3
    try:
        for name in library.LEVELS:
            library.set_level(name)
            found.append({k: linear(x, m) for k, m in all_kinds(37, 192).items() if k.startswith("int")})
    finally:
        library.set_level(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][key], other[key]) for key in found[0])


def test_a_row_has_the_same_bits_in_any_batch_and_with_any_threads(level: str) -> None:
    x = torch.randn(64, 192, generator=drawn(5))
    for kind, matrix in all_kinds(53, 192).items():
        torch.set_num_threads(1)
        whole = linear(x, matrix)
        for m in [*range(1, 18), 31, 48, 49, 63]:
            torch.set_num_threads(1 + m % 4)
            assert torch.equal(linear(x[:m], matrix), whole[:m]), (kind, m)
            assert torch.equal(linear(x[-m:], matrix), whole[-m:]), (kind, m)


def test_many_rows_are_cut_without_a_change(level: str) -> None:
    """More rows than stay in the cache, on a long row, are taken in several passes."""
    k = 4096
    matrix = low_bit(*random_weight(32, k, 4, 128, 1), 4)
    x = torch.randn(120, k, generator=drawn(5))
    whole = linear(x, matrix)
    assert all(torch.equal(linear(x[i : i + 1], matrix)[0], whole[i]) for i in (0, 47, 48, 95, 96, 119))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 7])
def test_parts_make_the_whole(parts: int) -> None:
    """Through the C interface, with rows of x and y that lie apart; nothing outside them is written."""
    native, m, n, k = library.library(), 5, 75, 96
    x = torch.randn(m, k + 7, generator=drawn(2))
    for matrix in all_kinds(n, k).values():
        scratch = torch.empty(native.ar_product_scratch(matrix.struct, m) + 64, dtype=torch.uint8)
        at = scratch.data_ptr() + -scratch.data_ptr() % 64
        y = torch.full((m, n + 3), 77.0)
        for part in range(parts):
            native.ar_product_prepare(matrix.struct, x.data_ptr(), m, k + 7, at, part, parts)
        for part in reversed(range(parts)):
            native.ar_product(matrix.struct, x.data_ptr(), m, k + 7, at, y.data_ptr(), n + 3, part, parts)
        assert torch.equal(y[:, :n], linear(x[:, :k], matrix))
        assert (y[:, n:] == 77).all()


def test_an_outlier_row_leaves_the_others_alone(level: str) -> None:
    x = torch.randn(6, 96, generator=drawn(1))
    spoilt = x.clone()
    spoilt[2] *= 1e6
    for matrix in all_kinds(20, 96).values():
        calm, wild = linear(x, matrix), linear(spoilt, matrix)
        others = [0, 1, 3, 4, 5]
        assert torch.equal(calm[others], wild[others])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_gives_nan_in_its_row_alone(level: str, value: float) -> None:
    x = torch.randn(4, 96, generator=drawn(1))
    x[1, 70] = value
    for kind, matrix in all_kinds(20, 96).items():
        y = linear(x, matrix)
        assert not y[1].isfinite().any(), kind
        assert not kind.startswith("int") or y[1].isnan().all()
        assert y[[0, 2, 3]].isfinite().all()


def test_tiny_huge_and_zero_activations(level: str) -> None:
    codes, scales = random_weight(16, 64, 8, 64, 1)
    x = torch.ones(4, 64)
    x[0], x[1], x[2, :32], x[3] = 0.0, 1e-38, 0.0, 1e35
    y = linear(x, low_bit(codes, scales, 8)).double()
    expected = x.double() @ weight_of(codes, scales).T
    assert (y[0] == 0).all() and (y[1] == 0).all(), "under 1e-30 counts as zero"
    torch.testing.assert_close(y[2:], expected[2:], rtol=1e-4, atol=1e-4)


@given(st.integers(1, 50), st.integers(1, 99), st.sampled_from([4, 8]), st.integers(0, 99))
def test_tiles_hold_the_codes(n: int, k: int, bits: int, seed: int) -> None:
    codes = random_codes(n, k, bits, seed)
    assert torch.equal(codes_of(low_bit(codes, torch.ones(n, 1), bits)), codes)


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_words_give_the_same_tiles(bits: int) -> None:
    from arriero.models.layers.packing import pack

    codes, scales = random_weight(1500, 45, bits, 45, 3)
    assert torch.equal(
        low_bit_packed(pack(codes, bits), 45, scales, bits).codes, low_bit(codes, scales, bits).codes
    )


def test_scales_are_kept_exactly() -> None:
    codes, scales = random_weight(20, 64, 4, 32, 1)
    assert low_bit(codes, scales, 4).scales.dtype == torch.float32  # type: ignore[union-attr]
    short = low_bit(codes, scales.bfloat16(), 4)
    assert short.scales is not None and short.scales.dtype == torch.bfloat16
    x = torch.randn(3, 64, generator=drawn(4))
    widened = low_bit(codes, scales.bfloat16().float(), 4)
    assert torch.equal(linear(x, short), linear(x, widened))


def test_shapes_and_dtypes_of_the_result() -> None:
    matrix = low_bit(*random_weight(10, 32, 4, 32, 1), 4)
    assert linear(torch.zeros(2, 0, 32), matrix).shape == (2, 0, 10)
    x = torch.randn(2, 3, 32, generator=drawn(1))
    assert linear(x.bfloat16(), matrix).dtype == torch.bfloat16
    across = x.transpose(0, 1)
    assert torch.equal(linear(across, matrix), linear(x, matrix).transpose(0, 1))


def test_what_has_no_native_product_is_refused() -> None:
    codes = random_codes(4, 48, 4, 1)
    with pytest.raises(ArrieroError, match="groups of 16 inputs have no native product; multiples of 32"):
        low_bit(codes, torch.ones(4, 3), 4)
    with pytest.raises(ArrieroError, match="5 scales do not divide rows of 48"):
        low_bit(codes, torch.ones(4, 5), 4)
    with pytest.raises(ArrieroError, match="2-bit codes have no native product"):
        low_bit(codes, torch.ones(4, 1), 2)
    with pytest.raises(ArrieroError, match=r"a torch\.float16 weight has no native product"):
        dense(torch.ones(4, 4, dtype=torch.float16))
