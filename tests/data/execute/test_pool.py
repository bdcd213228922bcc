from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from arriero.data.execute import ExecutorSettings, Progress, Task, make_executor
from arriero.data.execute.pool import PoolExecutor
from arriero.errors import ArrieroError, DamagedArtifactError, Interrupted


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("split")}


def gone(process: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(what, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_files_are_those_of_one_process(work, squares, tmp_path, workers) -> None:
    tasks = squares(11)
    make_executor(ExecutorSettings(kind="inline")).run(work.write_square, tasks)
    expected = files(tmp_path / "out")
    assert len(expected) == 11
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    PoolExecutor(workers).run(work.write_square, tasks)
    assert files(tmp_path / "out") == expected


@pytest.mark.alone
def test_it_starts_in_less_than_a_second(work, squares) -> None:
    started = time.monotonic()
    PoolExecutor(2).run(work.write_square, squares(2))
    # 0.3 s on a quiet core; the bound leaves room for a busy one
    assert time.monotonic() - started < 5


def test_workers_hold_no_torch_and_one_thread_and_keep_stdout_clean(work, tmp_path, capfd) -> None:
    __import__("torch")
    PoolExecutor(2).run(work.about, [Task(f"t{n}", (str(tmp_path), None)) for n in range(6)])
    told = [(tmp_path / f"t{n}").read_text().split() for n in range(6)]
    assert {line[0] for line in told} == {"False"}
    assert {line[1] for line in told} == {"1"}
    assert len({line[2] for line in told}) <= 2, "workers are kept for the next task"
    assert capfd.readouterr().out == ""


def test_done_tasks_are_not_done_again(work, squares, tmp_path) -> None:
    log = tmp_path / "log"
    tasks = squares(9)
    run = functools.partial(work.note_and_square, log=str(log))
    done = lambda task: (tmp_path / "out" / task.name).exists()  # noqa: E731
    PoolExecutor(2).run(run, tasks[:4], done=done)
    seen: list[Progress] = []
    PoolExecutor(2).run(run, tasks, done=done, tick=seen.append)
    names = [line.split()[0] for line in log.read_text().splitlines()]
    assert sorted(names) == [task.name for task in tasks]
    assert (seen[0].tasks, seen[-1].tasks, seen[-1].bytes, seen[-1].of_bytes) == (4, 9, 9000, 9000)
    assert seen[-1].documents == 50  # only of the five that this run did
    PoolExecutor(2).run(run, tasks, done=done)  # nothing left: nothing is started
    assert len(log.read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("how", "why"),
    [("kill", "SIGKILL"), ("segfault", "SIGSEGV"), ("memory", "out of memory"), ("exit", "status 3")],
)
def test_a_poison_split_costs_itself_alone(work, squares, tmp_path, how, why) -> None:
    tasks = squares(8, poison=2)
    with pytest.raises(ArrieroError, match=f"1 of 8 tasks failed: split-002: .*{why}.*2 times") as raised:
        PoolExecutor(2).run(functools.partial(work.die, how=how), tasks)
    assert "\n" not in str(raised.value)
    assert sorted(files(tmp_path / "out")) == [task.name for task in tasks if task.name != "split-002"]


def test_a_worker_that_dies_once_is_replaced(work, squares, tmp_path) -> None:
    PoolExecutor(2).run(functools.partial(work.die, how="once"), squares(6, poison=1))
    assert len(files(tmp_path / "out")) == 6


def test_a_worker_killed_from_outside_is_replaced(work, tmp_path) -> None:
    tasks = [Task("a", (str(tmp_path), 1.5)), Task("b", (str(tmp_path), 0.1))]

    def kill() -> None:
        wait_for(lambda: list(tmp_path.glob("a.*")))
        os.kill(int(next(tmp_path.glob("a.*")).suffix[1:]), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    PoolExecutor(2).run(work.sleep, tasks)
    thread.join()
    assert len(list(tmp_path.glob("a.*"))) == 2, "the task was begun twice"


def test_a_worker_is_held_to_its_memory(work, squares, tmp_path) -> None:
    executor = make_executor(ExecutorSettings(workers=1, worker_memory=1 << 30))
    with pytest.raises(ArrieroError, match="split-001: its worker ran out of memory"):
        executor.run(functools.partial(work.die, how="allocate"), squares(3, poison=1))
    assert len(files(tmp_path / "out")) == 2


def test_a_task_that_hangs_is_ended(work, squares, tmp_path) -> None:
    executor = make_executor(ExecutorSettings(workers=2, task_seconds=3.0))
    with pytest.raises(ArrieroError, match=r"split-001: its worker took more than 3 s"):
        executor.run(functools.partial(work.die, how="hang"), squares(3, poison=1))
    assert len(files(tmp_path / "out")) == 2


def test_errors_for_the_user_come_back_as_they_are(work, squares) -> None:
    with pytest.raises(DamagedArtifactError, match=r"^split-00\d is damaged; make it anew$"):
        PoolExecutor(2).run(work.refuse, squares(4))
    with pytest.raises(ArrieroError, match=r"^cannot travel$"):
        PoolExecutor(1).run(work.refuse_oddly, squares(1))


def test_a_bug_names_its_task_and_place_and_the_others_go_on(work, squares, tmp_path) -> None:
    with pytest.raises(ArrieroError, match=r"split-003: KeyError: 'absent' \(.*exe_work.py:\d+\)"):
        PoolExecutor(2).run(work.bug, squares(7, poison=3))
    assert len(files(tmp_path / "out")) == 6


def test_many_failures_end_the_run(work, squares, tmp_path) -> None:
    tasks = [Task(f"t{n:02d}", (str(tmp_path), "poison")) for n in range(40)]
    with pytest.raises(ArrieroError, match="10 of 40 tasks failed"):
        PoolExecutor(1).run(work.bug, tasks)


def test_what_cannot_travel_is_said(work, squares) -> None:
    with pytest.raises(ArrieroError, match="result cannot be sent"):
        PoolExecutor(1).run(work.unsendable, squares(1))
    with pytest.raises(ArrieroError, match="only functions of a module"):
        PoolExecutor(1).run(lambda task: None, squares(1))
    with pytest.raises(ValueError, match="two tasks are named"):
        PoolExecutor(1).run(work.write_square, squares(1) * 2)


def test_stop_ends_at_once_and_leaves_no_process(work, tmp_path) -> None:
    tasks = [Task(f"t{n}", (str(tmp_path), 60)) for n in range(4)]
    stop = lambda: len(list(tmp_path.iterdir())) == 2  # noqa: E731
    started = time.monotonic()
    with pytest.raises(Interrupted):
        PoolExecutor(2).run(work.sleep, tasks, stop=stop)
    assert time.monotonic() - started < 10
    assert all(gone(int(path.suffix[1:])) for path in tmp_path.iterdir())


def test_an_exception_of_the_caller_leaves_no_process(work, tmp_path) -> None:
    def tick(progress: Progress) -> None:
        if list(tmp_path.iterdir()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        PoolExecutor(1).run(work.sleep, [Task("t", (str(tmp_path), 60))], tick=tick)
    assert all(gone(int(path.suffix[1:])) for path in tmp_path.iterdir())


def test_workers_end_with_their_parent(tmp_path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import exe_work
from arriero.data.execute import ExecutorSettings, Task, make_executor
tasks = [Task(f"t{{n}}", ({str(tmp_path)!r}, 60)) for n in range(2)]
make_executor(ExecutorSettings(workers=2)).run(exe_work.sleep, tasks)
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    parent.kill()
    parent.wait()
    workers = [int(path.suffix[1:]) for path in tmp_path.iterdir()]
    wait_for(lambda: all(gone(process) for process in workers))


def test_random_kills_of_the_whole_run_change_no_byte(work, tmp_path) -> None:
    """The run is killed again and again, as a machine that goes down would do it."""
    out, expected = tmp_path / "out", tmp_path / "expected"
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import exe_work
from pathlib import Path
from arriero.data.execute import ExecutorSettings, Task, make_executor
from arriero.data.execute.exchange import exchange_file
tasks = [Task(f"t{{n:02d}}", (sys.argv[1], n)) for n in range(60)]
done = lambda task: exchange_file(Path(sys.argv[1]), task.name).exists()
make_executor(ExecutorSettings(workers=int(sys.argv[2]))).run(exe_work.exchange, tasks, done=done)
"""
    for attempt in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(out), "2"])
        try:
            process.wait(0.35 + 0.07 * attempt)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    subprocess.run([sys.executable, "-c", code, str(out), "2"], check=True)
    subprocess.run([sys.executable, "-c", code, str(expected), "1"], check=True)
    whole = {path.name: path.read_bytes() for path in expected.iterdir()}
    assert len(whole) == 60
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == whole
