from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.training.loop import train
from arriero.training.objectives.causal import CausalObjective
from arriero.training.precision import Arithmetic
from arriero.training.profiling import OTHER, PYTHON, Spent, StepProfiler, class_of, summary
from arriero.training.settings import TrainSettings

Make = Callable[..., Any]


def test_a_run_with_profile_leaves_a_trace_and_a_summary(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    context, plain = make_context(), make_model()
    settings = TrainSettings(duration="8 steps", batch_size=4, profile=True)
    model = make_model()
    train(model, causal, settings, context, arithmetic=fp32)
    folder = context.folder / "logs" / "profile"
    trace = json.loads((folder / "trace.json").read_text())
    assert any("backward" in event.get("name", "").lower() for event in trace["traceEvents"])
    lines = (folder / "summary.txt").read_text().splitlines()
    assert lines[0].startswith("3 steps in ") and any("matrix products" in line for line in lines)
    assert lines[0] in context.said and len(lines) < 30
    train(plain, causal, settings.model_copy(update={"profile": False}), make_context(), arithmetic=fp32)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_run_too_short_says_so(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    context = make_context()
    settings = TrainSettings(duration="4 steps", batch_size=4, profile=True)
    train(make_model(), causal, settings, context, arithmetic=fp32)
    assert any("no profile: the run had 4 of the 6 steps" in line for line in context.said)


def test_without_a_folder_nothing_is_recorded(tmp_path: Path) -> None:
    said: list[str] = []
    profiler = StepProfiler(None, said.append)
    for _ in range(10):
        profiler.step()
    profiler.close()
    assert not said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mkldnn::_linear_pointwise", "matrix products"), ("aten::bmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_fused_adamw_", "optimizer"), ("aten::mul", OTHER), ("aten::_softmax", "softmax and loss"),
    ],
)  # fmt: skip
def test_operations_are_sorted_into_classes(name: str, kind: str) -> None:
    assert class_of(name) == kind


def test_the_shares_are_of_the_wall_time() -> None:
    rows = [Spent("aten::mm", 0.6, 30), Spent("aten::mul", 0.2, 60)]
    lines = summary(rows, 1.0, 2)
    assert "2 steps in 1.000 s, 500.0 ms each" in lines[0]
    shares = {line.split("  ")[1].strip(): line for line in lines[1:4]}
    assert "60.0%" in shares["matrix products"] and "20.0%" in shares[OTHER] and "20.0%" in shares[PYTHON]
