"""Seconds from measured rates: exact at the measured sizes, between them in between, an error where none is."""

from __future__ import annotations

import pytest

from arriero.cost.device import DeviceProfile, MatmulPoint
from arriero.cost.roofline import (
    attention_rate,
    by_kind,
    elementwise_kind,
    elementwise_rate,
    matmul_rate,
    seconds,
)
from arriero.cost.trace import Op, Trace
from arriero.errors import ArrieroError


def op(name: str = "mm", kind: str = "matmul", dtype: str = "float32", **sizes: float) -> Op:
    given = {"m": 1, "k": 1, "n": 1, "batch": 1, "flops": 0.0, "bytes": 0, "count": 1} | sizes
    return Op(name, kind, dtype, **given)  # type: ignore[arg-type]


def product(m: int, k: int, n: int, dtype: str = "float32", count: int = 1) -> Op:
    return op(
        m=m, k=k, n=n, flops=2.0 * m * k * n, bytes=4 * (m * k + k * n + m * n), count=count, dtype=dtype
    )


def test_a_measured_size_takes_its_measured_rate(profile: DeviceProfile) -> None:
    assert matmul_rate(product(1024, 256, 4096), profile) == pytest.approx(2e11, rel=0.01)
    assert matmul_rate(product(64, 256, 256), profile) == pytest.approx(5e10, rel=0.01)


def test_sizes_between_take_rates_between_and_the_nearer_counts_more(profile: DeviceProfile) -> None:
    nearer_large = matmul_rate(product(1024, 256, 2048), profile)
    nearer_small = matmul_rate(product(1024, 256, 512), profile)
    assert 1e11 < nearer_small < nearer_large < 2e11


def test_batched_products_go_by_batched_points(profile: DeviceProfile) -> None:
    many = MatmulPoint(dtype="float32", m=256, k=32, n=256, batch=32, flops_per_s=7e9)
    with_batched = profile.model_copy(update={"matmul": [*profile.matmul, many]})
    assert matmul_rate(op("bmm", m=256, k=32, n=256, batch=16), with_batched) == pytest.approx(7e9, rel=0.02)
    assert matmul_rate(product(1024, 256, 4096), with_batched) == pytest.approx(2e11, rel=0.01)


def test_time_of_a_product_is_arithmetic_over_rate(profile: DeviceProfile) -> None:
    trace = Trace([product(1024, 256, 4096, count=3)], 0, 0)
    assert seconds(trace, profile) == pytest.approx(3 * (2 * 1024 * 256 * 4096 / 2e11 + 1e-6), rel=0.01)


def test_a_thin_product_waits_for_memory(profile: DeviceProfile) -> None:
    thin = op(m=1, k=1000, n=10_000, flops=2e7, bytes=4 * 10**8)
    assert seconds(Trace([thin], 0, 0), profile) == pytest.approx(4e8 / 1e10, rel=0.01)


def test_optimizer_and_attention_have_rates_of_their_own(profile: DeviceProfile) -> None:
    found = by_kind(
        Trace(
            [
                op("_fused_adamw_", "optimizer", m=10**6, bytes=28 * 10**6),
                op("sdpa", "attention", m=512, k=32, n=512, batch=4, flops=4e7, bytes=1),
                op("sdpa_backward", "attention_backward", m=512, k=32, n=512, batch=4, flops=1e8, bytes=1),
            ],
            0, 0,
        ),
        profile,
    )  # fmt: skip
    assert found["optimizer"] == pytest.approx(1e-3)
    assert found["attention"] == pytest.approx(4e7 / 4e10, rel=0.02)
    assert found["attention_backward"] == pytest.approx(1e8 / 2e10, rel=0.02)
    assert found["overhead"] == pytest.approx(3e-6)


def test_attention_between_two_lengths(profile: DeviceProfile) -> None:
    assert 1e10 < attention_rate(op("a", "attention", m=256, k=32, n=256, batch=4), profile) < 4e10


def test_small_tensors_are_faster_and_sizes_outside_keep_the_end_rates(profile: DeviceProfile) -> None:
    assert elementwise_rate("stream", "float32", 10, profile) == pytest.approx(4e10)
    assert elementwise_rate("stream", "float32", 10**12, profile) == pytest.approx(1e10)
    assert elementwise_rate("stream", "float32", 10**6, profile) == pytest.approx(2e10)
    assert elementwise_rate("stream", "int64", 10**6, profile) == pytest.approx(2e10)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("add", "stream"), ("add_", "in_place"), ("_foreach_mul_", "in_place"), ("silu_backward", "transcendental"),
        ("_log_softmax", "softmax"), ("linalg_vector_norm", "reduction"),
    ],
)  # fmt: skip
def test_classes_of_element_wise_work(name: str, kind: str) -> None:
    assert elementwise_kind(op(name, "other")) == kind


def test_a_dtype_that_was_never_measured_is_an_error(profile: DeviceProfile) -> None:
    with pytest.raises(ArrieroError, match=r"no rate for matrix products in float64 \(measured: float32\)"):
        seconds(Trace([product(8, 8, 8, dtype="float64")], 0, 0), profile)


def test_twice_the_work_takes_twice_the_time(profile: DeviceProfile) -> None:
    once = Trace([product(128, 256, 256), op("add", "other", bytes=10**6)], 0, 0)
    twice = Trace([product(128, 256, 256, count=2), op("add", "other", bytes=10**6, count=2)], 0, 0)
    assert seconds(twice, profile) == pytest.approx(2 * seconds(once, profile))
