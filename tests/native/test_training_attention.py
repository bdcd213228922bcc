"""The native training attention against attention in float64, and against torch's operations in bfloat16."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from arriero.cost.trace import trace
from arriero.models.layers import native_attention
from arriero.models.layers.attention import attend
from arriero.models.layers.explicit_attention import attend_explicit
from arriero.native import attention as native
from arriero.native import library
from arriero.native.threads import borrow_threads

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the processor has no AVX512_BF16, or no library"
)
BF16 = torch.bfloat16


def drawn(shape: tuple[int, ...], seed: int, size: float = 1.0, layout: str = "projected") -> Tensor:
    """bfloat16 [B, H, T, Dh], laid out in one of the ways in which attention is given its inputs."""
    batch, heads, length, dim = shape
    generator = torch.Generator().manual_seed(seed)

    def make(*sizes: int) -> Tensor:
        return (size * torch.randn(sizes, generator=generator)).to(BF16)

    if layout == "projected":
        return make(batch, length, heads, dim).transpose(1, 2)
    if layout == "contiguous":
        return make(batch, heads, length, dim)
    if layout == "part":
        return make(batch, length, heads + 1, dim + 3)[:, :, 1:, 2 : dim + 2].transpose(1, 2)
    return make(batch, heads, dim, length).transpose(2, 3)


def gradients(out: Tensor, inputs: list[Tensor], gradient: Tensor) -> list[Tensor]:
    return [out.detach(), *torch.autograd.grad(out, inputs, gradient.to(out.dtype))]


def exact(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, scale: float) -> list[Tensor]:
    wide = [x.double().requires_grad_() for x in (q, k, v)]
    out = F.scaled_dot_product_attention(*wide, is_causal=True, scale=scale, enable_gqa=True)
    return gradients(out, wide, gradient)


def found(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, scale: float) -> list[Tensor]:
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    return gradients(native_attention.attend_causal(*inputs, scale), inputs, gradient)


def explicit(q: Tensor, k: Tensor, v: Tensor, gradient: Tensor, scale: float) -> list[Tensor]:
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    return gradients(attend_explicit(*inputs, None, True, scale), inputs, gradient)


def off(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b).norm())


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    batch=st.integers(1, 3), kv_heads=st.integers(1, 3), group=st.integers(1, 8), length=st.integers(1, 200),
    dim=st.sampled_from([16, 32, 48, 64, 80, 96, 128, 256]), size=st.sampled_from([0.3, 1.0, 4.0]),
    layout=st.sampled_from(["projected", "contiguous", "part", "lying"]), scale=st.sampled_from([None, 0.03, 1.0]),
)  # fmt: skip
def test_it_is_attention(
    batch: int,
    kv_heads: int,
    group: int,
    length: int,
    dim: int,
    size: float,
    layout: str,
    scale: float | None,
) -> None:
    """As near to float64 as torch's operations in bfloat16 are, or nearer."""
    heads = kv_heads * group
    q = drawn((batch, heads, length, dim), 0, size, layout)
    k, v = (drawn((batch, kv_heads, length, dim), seed, size, layout) for seed in (1, 2))
    gradient = drawn((batch, heads, length, dim), 3, 1.0, layout)
    scale = dim**-0.5 if scale is None else scale
    right = exact(q, k, v, gradient, scale)
    ours, theirs = found(q, k, v, gradient, scale), explicit(q, k, v, gradient, scale)
    for a, b, c in zip(ours, theirs, right, strict=True):
        assert a.dtype == BF16
        assert a.shape == c.shape
        assert off(a, c) <= 1.05 * off(b, c) + 4e-3 * math.sqrt(c.numel()) * 0.05 + 1e-6


@pytest.mark.parametrize("length", [1, 8, 31, 32, 33, 64, 257, 512, 700])
def test_lengths_at_the_edges_of_tiles(length: int) -> None:
    q, k, v, gradient = (drawn((1, 3 if i in (0, 3) else 1, length, 64), i) for i in range(4))
    right, ours = exact(q, k, v, gradient, 0.125), found(q, k, v, gradient, 0.125)
    for a, c in zip(ours, right, strict=True):
        assert off(a, c) <= 5e-3 * float(c.norm()) + 1e-6


def test_no_token_sees_a_later_one() -> None:
    q, k, v = (drawn((1, 2, 100, 32), i) for i in range(3))
    before = native_attention.attend_causal(q, k, v, 0.2)
    changed = [x.clone() for x in (q, k, v)]
    for x in changed:
        x[:, :, 70:] = 5.0
    after = native_attention.attend_causal(*changed, 0.2)
    assert torch.equal(before[:, :, :70], after[:, :, :70])
    assert not torch.equal(before[:, :, 70:], after[:, :, 70:])


def test_large_scores_are_finite_and_right() -> None:
    """Scores of many thousands: a token sees what is largest, and gradients of scores vanish."""
    q, k, v, gradient = (drawn((1, 2, 90, 64), i, 60.0 if i < 2 else 1.0) for i in range(4))
    for a, c in zip(found(q, k, v, gradient, 1.0), exact(q, k, v, gradient, 1.0), strict=True):
        assert torch.isfinite(a).all()
        assert off(a, c) <= 1e-2 * float(c.norm()) + 1e-2
    huge = drawn((1, 2, 40, 64), 5, 1e15)
    assert all(torch.isfinite(x).all() for x in found(huge, huge, v[:, :, :40], gradient[:, :, :40], 1e-3))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_no_number_is_not_hidden(which: int) -> None:
    parts = [drawn((1, 1, 50, 32), i) for i in range(4)]
    parts[which][0, 0, 20, 3] = torch.nan
    out, *_ = found(*parts, 0.2)  # type: ignore[call-arg]
    assert out[0, 0, 20].isnan().any()
    if which < 2:  # a value has the weight 0 where it is not seen, and 0 NaN is NaN, in torch's products too
        assert not out[0, 0, :20].isnan().any()


def test_threads_and_repetitions_change_no_bit() -> None:
    q, k, v, gradient = (drawn((3, 6 if i in (0, 3) else 2, 150, 64), i) for i in range(4))
    first = found(q, k, v, gradient, 0.125)
    for threads in (2, 3, 7, 1):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(first, found(q, k, v, gradient, 0.125), strict=True))


def test_the_own_team_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch's threads cannot be borrowed."""
    q, k, v, gradient = (drawn((3, 2, 70, 32), i) for i in range(4))
    first = found(q, k, v, gradient, 0.125)
    monkeypatch.setattr("arriero.native.threads._openmp_parallel", lambda: None)
    try:
        assert not borrow_threads(native.prepared())
        torch.set_num_threads(3)
        assert all(torch.equal(a, b) for a, b in zip(first, found(q, k, v, gradient, 0.125), strict=True))
    finally:
        monkeypatch.undo()
        borrow_threads(native.prepared())


def test_documents_of_a_row_do_not_see_each_other() -> None:
    """``first`` cuts a row: each document comes out as by itself."""
    lengths = (5, 40, 1, 32, 22)
    q, k, v, gradient = (drawn((2, 4 if i in (0, 3) else 2, sum(lengths), 48), i) for i in range(4))
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    first = torch.tensor(
        [s for s, n in zip(starts, lengths, strict=True) for _ in range(n)], dtype=torch.int32
    )
    first = first.expand(2, -1).contiguous()
    out, sums = torch.empty_like(q), torch.empty(q.shape[:3])
    of = tuple(torch.empty_like(x) for x in (q, k, v))
    native.forward(q, k, v, out, sums, 0.2, first)
    native.backward(gradient, q, k, v, out, sums, of, 0.2, first)  # type: ignore[arg-type]
    for start, length in zip(starts, lengths, strict=True):
        part = [x[:, :, start : start + length] for x in (q, k, v, gradient)]
        for a, c in zip((out, *of), exact(*part, 0.2), strict=True):  # type: ignore[call-arg]
            assert off(a[:, :, start : start + length], c) <= 6e-3 * float(c.norm()) + 2e-3


def test_a_trace_without_memory_knows_what_is_allocated() -> None:
    def make() -> list[Tensor]:
        sizes = ((2, 40, 6, 32), (2, 40, 2, 32), (2, 40, 2, 32))
        return [torch.ones(s, dtype=BF16).transpose(1, 2).requires_grad_() for s in sizes]

    def run(state: list[Tensor]) -> list[Tensor]:
        out = attend(*state, None)
        return [out, *torch.autograd.grad(out.transpose(1, 2).flatten(2).sum(), state)]

    fake, real = trace(make, run), trace(make, run, fake=False)
    assert (fake.peak_bytes, fake.end_bytes, fake.flops) == (real.peak_bytes, real.end_bytes, real.flops)
    assert {"causal_attention", "causal_attention_backward"} <= {op.name for op in real.ops}
    assert fake.uncounted == ()
    assert fake.flops == 3.5 * 4 * 2 * 6 * 32 * 40**2, "one block of queries is worked out whole"


def test_what_it_does_not_take_goes_the_old_way(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (drawn((1, 2, 20, 64), i) for i in range(3))
    assert native_attention.takes(q, k, v, 0.1)
    odd = drawn((1, 2, 20, 12), 0)
    assert not native_attention.takes(odd, odd, odd, 0.1), "head dimension"
    assert not native_attention.takes(q[:, :, :5], k, v, 0.1), "queries of part of the keys"
    assert not native_attention.takes(q.float(), k.float(), v.float(), 0.1), "float32"
    assert not native_attention.takes(q, k, v, -0.1), "the largest score is the smallest product"
    monkeypatch.setenv(library.SWITCH, "0")
    assert not native_attention.takes(q, k, v, 0.1)
    out = attend(q, k, v, None)
    monkeypatch.delenv(library.SWITCH)
    torch.testing.assert_close(out, attend(q, k, v, None), rtol=0.02, atol=0.02)


def test_lower_levels_have_none(level: str) -> None:
    assert native.available() == (level in ("avx512", "avx512vnni"))


def test_nothing_of_no_rows() -> None:
    q = torch.empty(0, 2, 5, 32, dtype=BF16, requires_grad=True)
    out = native_attention.attend_causal(q, q, q, 0.2)
    out.sum().backward()
    assert q.grad is not None
    assert q.grad.shape == (0, 2, 5, 32)
