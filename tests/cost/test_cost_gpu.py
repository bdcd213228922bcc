"""benchmarks/cost_gpu.py, rehearsed: what it predicts, what it judges, what it says where there is no GPU."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from arriero.cost.counters_energy import CounterUnavailable, Energy


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "cost_gpu.py"
    spec = importlib.util.spec_from_file_location("cost_gpu", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cost_gpu"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([]) == 2
    said = capsys.readouterr().out
    assert said.startswith("there is no GPU here") and said.count("\n") == 1


def test_the_twelve_configurations_are_what_is_asked_for(bench: ModuleType) -> None:
    setups = bench.SETUPS
    assert len(setups) == 12 and sum(setup.batch > 0 for setup in setups) == 4
    training = [setup for setup in setups if not setup.batch]
    assert {setup.vocabulary for setup in training} == {32000, 128256}
    assert {setup.recompute for setup in training} == {"none", "selective", "full"}
    assert min(s.context for s in training) == 1024 and max(s.context for s in training) == 8192
    assert any(s.compile for s in training) and any(s.lora_rank for s in training)
    sizes = [sum(bench.config_of(setup).parameter_counts().values()) for setup in training]
    assert 0.08e9 < min(sizes) < 0.2e9 and 2.5e9 < max(sizes) < 3.6e9


def test_a_rehearsal_predicts_before_it_measures(
    bench: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    options = [
        "--device",
        "cpu",
        "--only",
        "full",
        "decode 3",
        "--seconds",
        "0.01",
        "--trial-seconds",
        "0.01",
        "--save",
    ]
    assert bench.main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("predicted") for line in lines[1:5]] == [True, True, False, False]
    result = json.loads(lines[-1])
    assert [row["name"] for row in result["rows"]] == ["tiny full", "tiny decode 3"]
    assert result["rows"][0]["errors"]["memory"] == 0.0, "the trace is exact on a processor"
    assert result["verdict"]["energy"]["kept"] is None
    (saved,) = tmp_path.iterdir()
    assert json.loads(saved.read_text()) == result


def row(**errors: float) -> dict[str, Any]:
    return {"errors": errors}


def test_the_verdict_is_by_mean_and_worst(bench: ModuleType) -> None:
    kept = bench.verdict([row(seconds=0.09, memory=-0.01), row(seconds=-0.1, memory=0.02)])
    assert kept["seconds"]["kept"] and kept["memory"]["kept"] and kept["energy"]["kept"] is None
    assert not bench.verdict([row(seconds=0.0), row(seconds=-0.21), row(seconds=0.0)])["seconds"]["kept"]
    assert not bench.verdict([row(seconds=0.11), row(seconds=0.11)])["seconds"]["kept"]


def test_joules_are_the_counters_own(bench: ModuleType) -> None:
    def missing() -> Any:
        raise CounterUnavailable("no driver")

    assert bench.nvml_joules(missing) == (None, "energy is unknown: no driver")
    polled = SimpleNamespace(basis="modelled")
    assert bench.nvml_joules(lambda: polled)[0] is None, "power samples are no counter"
    counter = SimpleNamespace(basis="measured", observe=lambda now: Energy(3 * now, 1.0) if now else None)
    joules, _ = bench.nvml_joules(lambda: counter)
    assert joules(2.0) == 7.0 and joules(0.0) is None


def test_a_second_result_of_a_day_keeps_the_first(bench: ModuleType, tmp_path: Path) -> None:
    result = {"device": "NVIDIA H200", "date": "2026-11-22"}
    names = [bench.save(result, tmp_path).name for _ in range(2)]
    assert names == ["2026-11-22-nvidia-h200.json", "2026-11-22-nvidia-h200-2.json"]
