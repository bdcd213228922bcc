from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from arriero.training.health.watchdog import HUNG_EXIT, Watchdog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def quiet(folder: Path, clock: Clock, **options: object) -> Watchdog:
    said: list[str] = []
    return Watchdog(folder, 10, said.append, clock=clock, background=False, **options)  # type: ignore[arg-type]


def test_a_beat_in_time_is_no_hang(tmp_path: Path) -> None:
    clock = Clock()
    with quiet(tmp_path, clock) as dog:
        for _ in range(5):
            clock.now += 9
            assert not dog.look()
            dog.beat("step")
        clock.now += 10
        assert dog.look()
        assert not dog.look(), "told once"


def test_it_is_off_at_zero(tmp_path: Path) -> None:
    clock = Clock()
    dog = Watchdog(tmp_path, 0, lambda line: None, clock=clock)
    with dog:
        clock.now += 1e9
        assert not dog.look()


def test_it_names_the_place_and_leaves_the_stacks(tmp_path: Path) -> None:
    clock = Clock()
    with quiet(tmp_path, clock) as dog:
        dog.beat("step 7")
        clock.now += 12
        assert dog.look()
        line = dog.accuse()
        assert "rank 0 (process" in line and "12 s in step 7" in line and "watchdog.py" in line
        assert "test_it_names_the_place" in (tmp_path / "hung-rank-0.txt").read_text()


def test_of_several_ranks_it_names_the_one_that_does_not_wait(tmp_path: Path) -> None:
    clock = Clock()
    dogs = [quiet(tmp_path, clock, rank=rank, world=3) for rank in range(3)]
    for dog in dogs:
        dog.beat("step 3")
    clock.now += 11
    assert all(dog.look() for dog in dogs)
    for rank in (0, 2):  # as if these stood in an all-reduce
        path = tmp_path / f"hung-rank-{rank}.json"
        path.write_text(path.read_text().replace('"waiting": false', '"waiting": true'))
    assert "rank 1 of 3" in dogs[0].accuse() == dogs[2].accuse() or "rank 1 of 3" in dogs[2].accuse()
    for rank in (1,):
        path = tmp_path / f"hung-rank-{rank}.json"
        path.write_text(path.read_text().replace('"waiting": false', '"waiting": true'))
    assert "all 3 ranks wait for each other" in dogs[0].accuse()


def test_a_rank_that_cannot_even_write_is_named(tmp_path: Path) -> None:
    clock = Clock()
    dogs = [quiet(tmp_path, clock, rank=rank, world=3) for rank in range(3)]
    for dog in dogs:
        dog.beat("step 3")
    clock.now += 11
    for rank in (0, 2):  # rank 1 is stopped by a signal, or its machine is gone
        assert dogs[rank].look()
        path = tmp_path / f"hung-rank-{rank}.json"
        path.write_text(path.read_text().replace('"waiting": false', '"waiting": true'))
    line = dogs[0].accuse()
    assert line.startswith("rank 1 of 3 said nothing") and "has waited for 11 s in step 3" in line
    (tmp_path / "hung-rank-2.json").unlink()
    assert dogs[0].accuse().startswith("ranks 1, 2 of 3 said nothing")


def test_a_real_hang_is_told_from_the_background(tmp_path: Path) -> None:
    said, ended = [], threading.Event()
    with Watchdog(tmp_path, 0.3, said.append, end=ended.set) as dog:
        dog.beat("step 1")
        deadline = time.monotonic() + 20
        while not ended.is_set() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert ended.is_set() and "in step 1: it is at test_watchdog.py" in said[0]
    assert not (tmp_path / "hung-rank-0.json").exists(), "nothing is left of a run that ended"


def test_under_torchrun_the_process_ends(tmp_path: Path) -> None:
    script = f"""
        import time
        from pathlib import Path
        from arriero.training.health.watchdog import Watchdog
        with Watchdog(Path({str(tmp_path)!r}), 0.3, print) as dog:
            dog.beat("step 4")
            time.sleep(60)
    """
    for run_id, code in (("here", HUNG_EXIT), (None, None)):
        environment = {k: v for k, v in os.environ.items() if k != "TORCHELASTIC_RUN_ID"}
        if run_id:
            environment["TORCHELASTIC_RUN_ID"] = run_id
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", textwrap.dedent(script)], env=environment, stdout=subprocess.PIPE
        )
        try:
            assert process.wait(timeout=20 if code else 3) == code
        except subprocess.TimeoutExpired:
            assert code is None, "alone it goes on"
        finally:
            process.kill()
            assert process.stdout is not None and b"in step 4" in process.stdout.read()
