"""Checkpoints between layouts, gradients between ways to accumulate, and a group that loses a process."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.testing import assert_close

WORKER = Path(__file__).parent / "worker.py"


def stopped(parallel: dict[str, Any], shares: str) -> dict[str, Any]:
    return {"settings": {"parallel": parallel}, "stop_at": 7, "shares": shares}


def resumed(parallel: dict[str, Any], shares: str) -> dict[str, Any]:
    return {"settings": {"parallel": parallel}, "shares": shares}


@pytest.fixture(scope="module")
def alone(worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = worker.run({"folder": str(tmp_path_factory.mktemp("alone"))})
    return found


def check_resumed(found: dict[str, Any], alone: dict[str, Any]) -> None:
    assert "error" not in found, found["trace"]
    assert "going on from step 7 of 20" in found["said"]
    assert len(found["loss"]) == 13
    assert max(abs(a - b) for a, b in zip(found["loss"], alone["loss"][7:], strict=True)) < 3e-6
    for name, value in alone["weights"].items():
        assert_close(
            found["weights"][name], value, atol=3e-5, rtol=0, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.slow
def test_a_checkpoint_of_one_layout_goes_on_under_another(together: Any, alone: dict[str, Any]) -> None:
    layouts: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"tensor": 2, "pipeline": 2}),
        ({"tensor": 2}, {"context": 2}),
        ({"tensor": 2, "pipeline": 2}, {"tensor": 2}),
        ({"shard": "none", "pipeline": 2}, {"replicas": 2}),
    ]
    cases = []
    for number, (before, after) in enumerate(layouts):
        cases += [stopped(before, f"run{number}"), resumed(after, f"run{number}")]
    found = together(4, cases)
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first["error"].startswith("Interrupted: stopped at step 7 of 20;"), first["trace"]
        check_resumed(second, alone)


@pytest.mark.slow
def test_a_checkpoint_goes_on_on_another_number_of_processes(
    together: Any, worker: ModuleType, alone: dict[str, Any], tmp_path: Path
) -> None:
    from arriero.errors import Interrupted

    with pytest.raises(Interrupted):
        worker.run({"folder": str(tmp_path), "stop_at": 7})
    down = tmp_path / "down"
    upwards, first = together(
        2, [{"settings": {"parallel": {}}, "folder": str(tmp_path)},
            {**stopped({"tensor": 2}, "down"), "folder": str(down)}],
    )  # fmt: skip
    check_resumed(upwards, alone)
    assert first["error"].startswith("Interrupted"), first["trace"]
    check_resumed(worker.run({"folder": str(down)}), alone)


@pytest.mark.slow
def test_accumulation_and_processes_do_not_change_the_gradient(together: Any, worker: ModuleType) -> None:
    def ways(parallel: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"what": "gradient", "settings": {"micro_batch_size": size, "parallel": parallel}}
            for size in (1, 2, 8)
        ]

    single = [worker.gradient(one)["gradient"] for one in ways({})]
    pairs = [found["gradient"] for found in together(2, ways({"shard": "none"}))]
    for other in (*single[1:], *pairs):
        for name, value in single[0].items():
            assert_close(other[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_a_killed_process_restarts_the_group_from_the_last_checkpoint(
    worker: ModuleType, tmp_path: Path
) -> None:
    settings = {"duration": "60 steps", "checkpoint_every": "5 steps"}
    folder = tmp_path / "run"
    folder.mkdir()
    one = {"folder": str(folder), "settings": settings, "result": str(tmp_path / "result.pt"), "raises": True}
    (tmp_path / "cases.json").write_text(json.dumps([one]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    run = subprocess.Popen(
        [*torchrun, str(WORKER), str(tmp_path / "cases.json")], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        kill_rank(run.pid, 1, folder)
        said = run.communicate(timeout=300)[1]
    finally:
        run.kill()
    assert run.returncode == 0, said[-3000:]
    found = torch.load(one["result"], weights_only=True)
    assert any(line.startswith("going on from step") for line in found["said"])
    (tmp_path / "alone").mkdir()
    calm = worker.run({**copy.deepcopy(one), "folder": str(tmp_path / "alone")})
    for name, value in calm["weights"].items():
        assert_close(found["weights"][name], value, atol=1e-4, rtol=0)


def kill_rank(torchrun: int, rank: int, folder: Path) -> None:
    """SIGKILL for the child with this rank, once there is a checkpoint after step 5."""
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoint-*1?/complete.json")):
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    for task in Path(f"/proc/{torchrun}/task").iterdir():
        for child in (task / "children").read_text().split():
            if f"RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
                os.kill(int(child), signal.SIGKILL)
                return
    raise AssertionError("there is no such process")
