from __future__ import annotations

import functools
import importlib
from pathlib import Path

import pytest

from arriero.data.execute import ExecutorSettings, Progress, Task, make_executor
from arriero.data.execute.exchange import read_partition
from arriero.errors import ArrieroError, DamagedArtifactError, Interrupted


def test_without_ray_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ArrieroError, match=r"needs the package ray: .*arriero\[data\]"):
        make_executor(ExecutorSettings(kind="ray"))


@pytest.fixture(scope="module")
def started():
    """One Ray for all tests of this file: the executor uses the one that runs."""
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
        object_store_memory=80 << 20, configure_logging=False,
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_ray_started_by_the_executor_gives_the_pools_bytes(work, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    seen: list[Progress] = []
    for kind in ("ray", "pool"):
        tasks = [Task(f"t{n:02d}", (str(tmp_path / kind), n)) for n in range(12)]
        make_executor(ExecutorSettings(kind=kind, workers=2)).run(work.exchange, tasks, tick=seen.append)
    assert not ray.is_initialized(), "what the executor started it ends"
    assert seen[-1].tasks == 12
    for partition in range(work.PARTITIONS):
        one, other = (read_partition(tmp_path / kind, partition) for kind in ("ray", "pool"))
        assert len(one)
        assert one.tobytes() == other.tobytes()


@pytest.mark.slow
def test_a_poison_split_costs_itself_alone(started, work, squares, tmp_path: Path) -> None:
    executor = make_executor(ExecutorSettings(kind="ray"))
    with pytest.raises(ArrieroError, match="1 of 6 tasks failed: split-002: its worker died, 2 times"):
        executor.run(functools.partial(work.die, how="kill"), squares(6, poison=2))
    assert len([path for path in (tmp_path / "out").iterdir() if path.name != "seen"]) == 5
    assert started.is_initialized(), "what was there before stays"


@pytest.mark.slow
def test_errors_come_back_in_one_line(started, work, squares, tmp_path: Path) -> None:
    executor = make_executor(ExecutorSettings(kind="ray"))
    with pytest.raises(DamagedArtifactError, match=r"^split-00\d is damaged; make it anew$"):
        executor.run(work.refuse, squares(4))
    with pytest.raises(ArrieroError, match="split-001: KeyError: 'absent'"):
        executor.run(work.bug, squares(3, poison=1))


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(started, work, squares, tmp_path: Path) -> None:
    executor = make_executor(ExecutorSettings(kind="ray"))
    tasks = squares(40)
    out = tmp_path / "out"
    done = lambda task: (out / task.name).exists()  # noqa: E731
    with pytest.raises(Interrupted):
        executor.run(work.write_square, tasks, done=done, stop=lambda: bool(list(out.iterdir())))
    before = len(list(out.iterdir()))
    assert before >= 1
    executor.run(work.write_square, tasks, done=done)
    assert {path.name for path in out.iterdir()} == {task.name for task in tasks}


@pytest.mark.slow
def test_a_cluster_that_is_not_there(work, squares) -> None:
    ray = pytest.importorskip("ray")
    ray.shutdown()
    executor = make_executor(ExecutorSettings(kind="ray", address="auto"))
    with pytest.raises(ArrieroError, match="Ray does not start or answer at auto") as raised:
        executor.run(work.write_square, squares(2))
    assert "\n" not in str(raised.value)
