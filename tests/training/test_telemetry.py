from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arriero.cost.device import DeviceProfile, MatmulPoint
from arriero.training.loop import train
from arriero.training.metrics import Window
from arriero.training.objectives.causal import CausalObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.telemetry import Telemetry

Make = Callable[..., Any]


class Optimizer:
    def __init__(self, state: dict[Any, dict[str, Any]]) -> None:
        self.state = state


def telemetry(model: Any, profile: DeviceProfile | None, fp32: Arithmetic) -> Telemetry:
    trained = dict(model.named_parameters())
    state = {p: {"exp_avg": p.detach(), "step": p.detach().sum()} for p in trained.values()}
    return Telemetry(model, trained, Optimizer(state), fp32, profile)  # type: ignore[arg-type]


def measured(*rates: tuple[str, float]) -> DeviceProfile:
    points = [MatmulPoint(dtype=dtype, m=64, k=64, n=64, flops_per_s=rate) for dtype, rate in rates]
    return DeviceProfile(
        cpu="a processor", cores=2, threads=2, memory_bytes=2**34, measured_at="2026-01-01T00:00:00+00:00", versions={},
        matmul=points, attention=[], elementwise=[], copy_bytes_per_s=1e10, op_seconds=1e-6,
        optimizer_params_per_s=1e9, bf16_pays=False, process_bytes=10**8,
    )  # fmt: skip


def test_speed_against_a_synthetic_clock(make_model: Make, fp32: Arithmetic) -> None:
    peak = 3e11
    device = measured(("float32", 1e11), ("float32", peak), ("bfloat16", 9e11))
    window = Window(weight=1, seconds=2.0, tokens=500, flops=peak)
    assert telemetry(make_model(), device, fp32).speed(window) == {"tokens_per_s": 250.0, "mfu": 0.5}
    assert telemetry(make_model(), None, fp32).speed(window) == {"tokens_per_s": 250.0}
    assert telemetry(make_model(), None, fp32).formula is None
    assert f"{peak / 1e9:,.0f} GFLOP/s" in (telemetry(make_model(), device, fp32).formula or "")


def test_memory_by_kind_is_that_of_the_tensors(make_model: Make, fp32: Arithmetic) -> None:
    model = make_model()
    count = sum(p.numel() for p in model.parameters())
    found = telemetry(model, None, fp32).memory()
    assert found["weights_bytes"] == found["gradients_bytes"] == 4 * count
    assert found["optimizer_bytes"] == 4 * count + 4 * len(list(model.parameters()))
    assert found["memory_bytes"] > found["weights_bytes"]


def test_the_log_has_them(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    context = make_context()
    train(make_model(), causal, TrainSettings(duration="4 steps", log_every=2), context, arithmetic=fp32)
    line = [line for line in context.lines() if "loss" in line][-1]
    assert {"loss", "lr", "grad_norm", "tokens_per_s", "memory_bytes", "optimizer_bytes"} <= line.keys()
    assert line["tokens_per_s"] == pytest.approx(line["tokens_per_s"]) and line["tokens_per_s"] > 0
