"""A device profile with round figures, for tests that price things."""

from __future__ import annotations

import pytest

from arriero.cost.device import AttentionPoint, DeviceProfile, ElementwisePoint, MatmulPoint

KINDS = ("in_place", "stream", "transcendental", "softmax", "reduction")


@pytest.fixture
def profile() -> DeviceProfile:
    """100 GFLOP/s, 10 GB/s, a microsecond an operation."""
    return DeviceProfile(
        cpu="Test CPU", cores=4, threads=4, memory_bytes=16 * 10**9, measured_at="2026-01-01T00:00:00+00:00",
        versions={"torch": "2.13.0"}, copy_bytes_per_s=1e10, op_seconds=1e-6, optimizer_params_per_s=1e9,
        bf16_pays=False, process_bytes=3 * 10**8,
        matmul=[
            MatmulPoint(dtype="float32", m=m, k=256, n=n, flops_per_s=rate)
            for m, n, rate in ((64, 256, 5e10), (1024, 256, 1e11), (1024, 4096, 2e11))
        ],
        attention=[
            AttentionPoint(
                dtype="float32", batch=1, n_heads=4, seq_len=length, head_dim=32,
                forward_flops_per_s=rate, backward_flops_per_s=rate / 2,
            )
            for length, rate in ((128, 1e10), (512, 4e10))
        ],
        elementwise=[
            ElementwisePoint(kind=kind, dtype=dtype, bytes=size, bytes_per_s=rate)
            for kind in KINDS for dtype in ("float32", "bfloat16") for size, rate in ((10**4, 4e10), (10**8, 1e10))
        ],
    )  # fmt: skip
