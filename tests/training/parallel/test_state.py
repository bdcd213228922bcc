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
SHORT = {"duration": "10 steps", "eval_every": 5}


def stopped(parallel: dict[str, Any], shares: str) -> dict[str, Any]:
    return {"settings": {**SHORT, "parallel": parallel}, "stop_at": 4, "shares": shares}


def resumed(parallel: dict[str, Any], shares: str) -> dict[str, Any]:
    return {"settings": {**SHORT, "parallel": parallel}, "shares": shares}


@pytest.fixture(scope="module")
def alone(worker: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = worker.run({"folder": str(tmp_path_factory.mktemp("alone")), "settings": SHORT})
    return found


def check_resumed(found: dict[str, Any], alone: dict[str, Any]) -> None:
    assert "error" not in found, found["trace"]
    assert "going on from step 4 of 10" in found["said"]
    assert len(found["loss"]) == 6
    assert max(abs(a - b) for a, b in zip(found["loss"], alone["loss"][4:], strict=True)) < 3e-6
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
        ({"pipeline": 2}, {"pipeline": 2, "context": 2}),
    ]
    cases = []
    for number, (before, after) in enumerate(layouts):
        cases += [stopped(before, f"run{number}"), resumed(after, f"run{number}")]
    found = together(4, cases)
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first["error"].startswith("Interrupted: stopped at step 4 of 10;"), first["trace"]
        check_resumed(second, alone)


@pytest.mark.slow
def test_a_checkpoint_goes_on_on_another_number_of_processes(
    together: Any, worker: ModuleType, alone: dict[str, Any], tmp_path: Path
) -> None:
    from arriero.errors import Interrupted

    with pytest.raises(Interrupted):
        worker.run({"folder": str(tmp_path), "settings": SHORT, "stop_at": 4})
    down = tmp_path / "down"
    upwards, first = together(
        2, [{**resumed({}, "up"), "folder": str(tmp_path)},
            {**stopped({"tensor": 2}, "down"), "folder": str(down)}],
    )  # fmt: skip
    check_resumed(upwards, alone)
    assert first["error"].startswith("Interrupted"), first["trace"]
    check_resumed(worker.run({"folder": str(down), "settings": SHORT}), alone)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "rate"), [("adafactor", 0.03), ("muon", 3e-3)])
def test_statistics_of_whole_matrices_go_on_under_another_layout(
    together: Any, worker: ModuleType, tmp_path: Path, optimizer: str, rate: float
) -> None:
    own = {**SHORT, "optimizer": optimizer, "learning_rate": rate}
    alone = worker.run({"settings": own, "folder": str(tmp_path)})
    cases = []
    for one in (
        stopped({}, "cut"), resumed({"tensor": 2}, "cut"),
        stopped({"tensor": 2}, "back"), resumed({"shard": "none"}, "back"),
    ):  # fmt: skip
        one["settings"] |= own
        cases.append(one)
    found = together(2, cases)
    loss, weight = (3e-6, 3e-5) if optimizer == "adafactor" else (1e-4, 4e-3)
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first["error"].startswith("Interrupted"), first["trace"]
        assert "error" not in second, second["trace"]
        assert len(second["loss"]) == 6
        assert max(abs(a - b) for a, b in zip(second["loss"], alone["loss"][4:], strict=True)) < loss
        for name, value in alone["weights"].items():
            assert_close(second["weights"][name], value, atol=weight, rtol=0)


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


def under_torchrun(tmp_path: Path, case: dict[str, Any]) -> subprocess.Popen[str]:
    """Two processes on the case, started again up to twice; its result goes to result.pt."""
    folder = tmp_path / "run"
    folder.mkdir()
    case |= {"folder": str(folder), "result": str(tmp_path / "result.pt"), "raises": True}
    (tmp_path / "cases.json").write_text(json.dumps([case]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    return subprocess.Popen(
        [*torchrun, str(WORKER), str(tmp_path / "cases.json")], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def check_undisturbed(worker: ModuleType, tmp_path: Path, case: dict[str, Any]) -> None:
    """The weights are those of the same run by one process that nothing happened to."""
    found = torch.load(case["result"], weights_only=True)
    assert any(line.startswith("going on from step") for line in found["said"])
    (tmp_path / "alone").mkdir()
    calm = {name: value for name, value in case.items() if name != "hang"}
    alone = worker.run({**copy.deepcopy(calm), "folder": str(tmp_path / "alone")})
    for name, value in alone["weights"].items():
        assert_close(found["weights"][name], value, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["checkpoint-*1?/complete.json", ".checkpoint-*1?.partial"])
def test_a_killed_process_restarts_the_group_from_the_last_checkpoint(
    worker: ModuleType, tmp_path: Path, moment: str
) -> None:
    """Weights are cut by FSDP; the process dies after a checkpoint, or while one is written."""
    case: dict[str, Any] = {"settings": {"duration": "60 steps", "checkpoint_every": "5 steps"}}
    run = under_torchrun(tmp_path, case)
    try:
        kill_rank(run.pid, 1, tmp_path / "run", moment)
        said = run.communicate(timeout=300)[1]
    finally:
        run.kill()
    assert run.returncode == 0, said[-3000:]
    check_undisturbed(worker, tmp_path, case)
    assert not list((tmp_path / "run").glob(".checkpoint-*.partial"))


@pytest.mark.slow
def test_a_process_that_hangs_is_named_and_the_group_starts_again(worker: ModuleType, tmp_path: Path) -> None:
    settings = {"duration": "12 steps", "checkpoint_every": "3 steps", "health": {"hang_seconds": 10}}
    case: dict[str, Any] = {"settings": settings, "hang": [1, 8]}
    run = under_torchrun(tmp_path, case)
    try:
        said = run.communicate(timeout=300)[1]
    finally:
        run.kill()
    assert run.returncode == 0, said[-3000:]
    assert "rank 1 of 2 (process" in said and "worker.py" in said, said[-3000:]
    assert "stop_requested" in said
    check_undisturbed(worker, tmp_path, case)


@pytest.mark.slow
def test_a_truncated_part_of_the_newest_checkpoint_is_passed_over(
    together: Any, alone: dict[str, Any], tmp_path: Path
) -> None:
    settings = {**SHORT, "checkpoint_every": "2 steps", "parallel": {}}
    first = {"settings": settings, "stop_at": 6, "folder": str(tmp_path)}
    [stopped_run] = together(2, [first])
    assert stopped_run["error"].startswith("Interrupted"), stopped_run["trace"]
    newest = max(tmp_path.glob("checkpoint-*"))
    part = newest / "rank-00001.safetensors"
    part.write_bytes(part.read_bytes()[:-64])
    [found] = together(2, [{"settings": settings, "folder": str(tmp_path)}])
    assert "error" not in found, found["trace"]
    assert any("is damaged" in line for line in found["said"])
    assert "going on from step 4 of 10" in found["said"]
    for name, value in alone["weights"].items():
        assert_close(found["weights"][name], value, atol=3e-5, rtol=0)


def kill_rank(torchrun: int, rank: int, folder: Path, moment: str) -> None:
    """SIGKILL for the child with this rank, once a path like ``moment`` is there."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(moment)):
        assert time.monotonic() < deadline, f"no {moment} came"
        time.sleep(0.001)
    for task in Path(f"/proc/{torchrun}/task").iterdir():
        for child in (task / "children").read_text().split():
            if f"RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text():
                os.kill(int(child), signal.SIGKILL)
                return
    raise AssertionError("there is no such process")
