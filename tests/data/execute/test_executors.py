from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from arriero.data.execute import Counts, ExecutorSettings, Progress, Task, make_executor, require_all
from arriero.data.execute.inline import InlineExecutor
from arriero.data.execute.pool import PoolExecutor
from arriero.data.execute.progress import Meter
from arriero.data.execute.settings import cores
from arriero.errors import ArrieroError, Interrupted


def test_settings_choose_the_executor() -> None:
    assert make_executor().workers == cores()
    assert isinstance(make_executor(ExecutorSettings(workers=3)), PoolExecutor)
    assert isinstance(make_executor(ExecutorSettings(kind="inline")), InlineExecutor)


@pytest.mark.parametrize(
    "given",
    [
        {"address": "auto"}, {"kind": "inline", "workers": 2}, {"kind": "ray", "worker_memory": 1 << 30},
        {"kind": "inline", "task_seconds": 3}, {"shard": "0/4"}, {"shard": "5/4"}, {"shard": "2"},
        {"shard": "-1/4"}, {"shard_wait": 5}, {"workers": 0}, {"kind": "spark"},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(given: dict) -> None:
    with pytest.raises(ValidationError):
        ExecutorSettings(**given)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "-x"])
def test_a_task_has_a_files_name(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a task"):
        Task(name)


def test_inline_stops_between_tasks_and_goes_on() -> None:
    did: list[str] = []
    tasks = [Task(f"t{n}") for n in range(5)]
    work = lambda task: did.append(task.name)  # noqa: E731
    with pytest.raises(Interrupted):
        InlineExecutor().run(work, tasks, stop=lambda: len(did) == 2)
    InlineExecutor().run(work, tasks, done=lambda task: task.name in did)
    assert did == [task.name for task in tasks]


@pytest.mark.parametrize("kind", ["inline", "pool"])
def test_shards_share_the_tasks_and_the_last_one_goes_on(work, squares, tmp_path: Path, kind: str) -> None:
    tasks = squares(10)
    out = tmp_path / "out"
    done = lambda task: (out / task.name).exists()  # noqa: E731
    for index in (1, 3):
        executor = make_executor(ExecutorSettings(kind=kind, workers=1, shard=f"{index}/3"))
        before = {path.name for path in out.iterdir()}
        with pytest.raises(
            ArrieroError, match=f"shard {index}/3 has done its tasks, but .* are missing"
        ) as told:
            executor.run(work.write_square, tasks, done=done)
        assert "2/3" in str(told.value)
        assert "\n" not in str(told.value)
        own = {task.name for task in tasks[index - 1 :: 3]}
        assert {path.name for path in out.iterdir()} == before | own
    with pytest.raises(ArrieroError, match="3 of 10 tasks are not done: split-001, split-004, split-007"):
        require_all(tasks, done)
    make_executor(ExecutorSettings(kind=kind, workers=1, shard="2/3")).run(
        work.write_square, tasks, done=done
    )
    require_all(tasks, done)


def test_a_shard_waits_for_the_others(work, squares, tmp_path: Path) -> None:
    tasks = squares(4)
    done = lambda task: (tmp_path / "out" / task.name).exists()  # noqa: E731
    other = threading.Timer(0.7, lambda: [work.write_square(task) for task in tasks[1::2]])
    other.start()
    settings = ExecutorSettings(kind="inline", shard="1/2", shard_wait=20)
    make_executor(settings).run(work.write_square, tasks, done=done)
    other.join()
    assert all(map(done, tasks))


def test_progress_tells_rate_share_dropped_and_time_left() -> None:
    now = 100.0
    seen: list[Progress] = []
    meter = Meter(seen.append, [1000] * 10, [1000] * 2, clock=lambda: now)
    meter.tell()
    assert (seen[-1].tasks, seen[-1].seconds_left, seen[-1].drop_rate, seen[-1].bytes_per_s) == (
        2,
        None,
        None,
        0,
    )
    now = 104.0
    meter.finished("a", 1000, 50, 20)
    meter.finished("b", 1000, 50, 40)
    last = seen[-1]
    assert (last.tasks, last.bytes, last.task) == (4, 4000, "b")
    assert last.bytes_per_s == 500  # the two tasks of before do not count
    assert last.seconds_left == 12
    assert last.drop_rate == pytest.approx(0.4)
    assert last.line() == "4/10 tasks, 0.00 of 0.00 GB, 0.0 MB/s, 40.0 % dropped, 0:12 left"


def test_progress_of_tasks_without_a_size_counts_tasks() -> None:
    now = 0.0
    seen: list[Progress] = []
    meter = Meter(seen.append, [0] * 4, [], clock=lambda: now)
    now = 3.0
    meter.finished("a", 0, 0, 0)
    assert seen[-1].seconds_left == 9
    assert seen[-1].line() == "1/4 tasks, 0:09 left"


def test_counts_of_the_work_reach_the_progress() -> None:
    seen: list[Progress] = []
    InlineExecutor().run(lambda task: Counts(4, 1), [Task("a"), Task("b")], tick=seen.append)
    assert seen[-1].documents == 8
    assert seen[-1].kept == 2
