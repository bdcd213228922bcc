"""kill -9 at random moments of real processes, damaged files, a full disk, SIGTERM: the weights end up the same bits."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("tiny_run.py")
KINDS = ("pretrain", "lora", "lstm")


class Process:
    """A run that is under way."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number, self.folder = number, folder

    def send(self, what: signal.Signals) -> bool:
        """False where it was over already."""
        try:
            os.kill(self.number, what)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> bool:
        sent = self.send(signal.SIGKILL)
        self.wait_for(lambda: not self.there())
        return sent and not (self.folder / "code").exists()

    def there(self) -> bool:
        try:
            os.kill(self.number, 0)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> int:
        """Wait for its end; its exit code."""
        self.wait_for(lambda: (self.folder / "code").exists() or not self.there())
        self.wait_for(lambda: not self.there())
        code = self.folder / "code"
        return int(code.read_text()) if code.exists() else -1

    def wait_for(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.001)

    def output(self) -> str:
        path, ended = self.folder / "output", self.folder / "ended"
        return (path.read_text() if path.exists() else "") + (ended.read_text() if ended.exists() else "")

    def wait_for_step(self, step: int) -> None:
        """Until a step from this one on is reported."""

        def reported() -> bool:
            lines = [int(line) for line in self.output().splitlines() if line.isdigit()]
            return any(line >= step for line in lines) or not self.there()

        self.wait_for(reported)


Start = Callable[..., Process]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    nursery = subprocess.Popen(
        [sys.executable, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "ARRIERO_GRACE_SECONDS": "1"},
    )  # fmt: skip
    assert nursery.stdin is not None and nursery.stdout is not None

    def run(folder: Path, kind: str, **options: object) -> Process:
        for name in ("code", "ended", "output"):
            (folder / name).unlink(missing_ok=True)
        given = [f"{name}={value}" for name, value in options.items()]
        nursery.stdin.write(" ".join([str(folder), kind, *given]) + "\n")  # type: ignore[union-attr]
        nursery.stdin.flush()  # type: ignore[union-attr]
        return Process(int(nursery.stdout.readline()), folder)  # type: ignore[union-attr]

    yield run
    nursery.stdin.close()
    nursery.wait(10)


def finish(start: Start, folder: Path, kind: str, **options: object) -> bytes:
    process = start(folder, kind, **options)
    assert process.end() == 0, process.output()
    return (folder / "weights.bin").read_bytes()


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a run of this kind that nothing happened to."""
    made: dict[str, Path] = {}

    def run(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("whole") / kind
            finish(start, made[kind], kind)
        return made[kind]

    return run


def losses(folder: Path) -> list[tuple[int, float | None]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("loss", line.get("heldout_loss"))) for line in lines]


def flops(folder: Path) -> float:
    return sum(float(line) for line in (folder / "flops").read_text().split())


def same(folder: Path, whole: Path, again: int = 0) -> None:
    """Nothing tells this run from one that nothing happened to, but for ``again`` steps that were lost and redone."""
    assert (folder / "weights.bin").read_bytes() == (whole / "weights.bin").read_bytes()
    assert losses(folder) == losses(whole), "no step is logged twice, and the losses are the same"
    once = flops(whole)
    # a kill between a checkpoint's appearing and its being counted loses its steps from the count, never doubles them
    assert 0.9 * once <= flops(folder) <= (1 + 1e-6 + 1.5 * again / 120) * once


def killed_at_random(start: Start, folder: Path, kind: str, kills: int, seed: int) -> int:
    """Kill and start again until so many kills are done, or the run; how many hit it."""
    chance, hits = random.Random(seed), 0
    for number in range(kills):
        process = start(folder, kind, pause=0.005)
        if number % 2:  # while a checkpoint is being written
            process.wait_for(lambda p=process: any(folder.glob(".checkpoint-*.partial")) or not p.there())
        else:
            process.wait_for_step(1)
            time.sleep(chance.uniform(0.0, 0.15))
        hits += process.kill()
    return hits


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_the_weights_are_the_same_bits(
    start: Start, tmp_path: Path, whole: Callable[[str], Path], kind: str
) -> None:
    folder = tmp_path / "killed"
    assert killed_at_random(start, folder, kind, 5, seed=1) >= 4
    finish(start, folder, kind)
    same(folder, whole(kind))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_twenty_times_at_random_moments(
    start: Start, tmp_path: Path, whole: Callable[[str], Path], kind: str, seed: int
) -> None:
    folder, hits = tmp_path / "killed", 0
    while hits < 20:
        before = hits
        hits += killed_at_random(start, folder, kind, 20 - hits, seed + hits)
        if (folder / "weights.bin").exists():  # it came to its end between two kills: one more run
            same(folder, whole(kind))
            shutil.rmtree(folder)
        assert hits > before
    finish(start, folder, kind)
    same(folder, whole(kind))


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_it_invisible(
    start: Start, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    folder, left = tmp_path / "killed", 0
    for _ in range(6):
        process = start(folder, "pretrain")
        process.wait_for(lambda p=process: any(folder.glob(".checkpoint-*.partial")) or not p.there())
        process.kill()
        left += any(folder.glob(".checkpoint-*.partial"))
    assert left, "one of the six was hit while it wrote"
    finish(start, folder, "pretrain")
    same(folder, whole("pretrain"))
    assert not any(folder.glob(".checkpoint-*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["truncated", "flipped", "unmarked", "without its layout"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    start: Start, tmp_path: Path, whole: Callable[[str], Path], harm: str
) -> None:
    folder = tmp_path / "damaged"
    process = start(folder, "pretrain", pause=0.01)
    process.wait_for_step(20)
    process.kill()
    newest = max(folder.glob("checkpoint-*"))
    tensors = newest / "rank-00000.safetensors"
    data = bytearray(tensors.read_bytes())
    if harm == "truncated":
        tensors.write_bytes(data[:-100])
    elif harm == "flipped":
        data[len(data) // 2] ^= 4
        tensors.write_bytes(data)
    else:
        (newest / ("complete.json" if harm == "unmarked" else "layout.json")).unlink()
    process = start(folder, "pretrain")
    assert process.end() == 0
    expected = "is damaged" if harm in ("truncated", "flipped") else "is not whole"
    assert f"step {int(newest.name[-8:])} {expected}" in process.output()
    assert "going on from step" in process.output()
    same(folder, whole("pretrain"), again=4)


@pytest.mark.slow
def test_other_settings_do_not_go_on_from_its_checkpoints(
    start: Start, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    folder = tmp_path / "other"
    process = start(folder, "pretrain", learning_rate=0.02, pause=0.01)
    process.wait_for_step(20)
    process.kill()
    (folder / "flops").unlink()
    process = start(folder, "pretrain")
    assert process.end() == 0
    assert "is of another run (other settings, data or model)" in process.output()
    assert "going on" not in process.output().replace("going back", "")
    same(folder, whole("pretrain"))


@pytest.mark.alone
@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(
    start: Start, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    folder = tmp_path / "ended"
    for step in (10, 50):
        process = start(folder, "pretrain", pause=0.01, checkpoint_every='"1000steps"')
        process.wait_for_step(step)
        process.send(signal.SIGTERM)
        began = time.monotonic()
        assert process.end() == 75
        assert time.monotonic() - began < 1, "within the second that ARRIERO_GRACE_SECONDS gives"
        saved = int(max(folder.glob("checkpoint-*")).name[-8:])
        assert saved >= step and f"stopped at step {saved} of 120" in process.output()
    finish(start, folder, "pretrain", checkpoint_every='"1000steps"')
    same(folder, whole("pretrain"), again=1)  # the evaluation that it interrupted is done again


@pytest.mark.alone
@pytest.mark.slow
def test_after_sigterm_a_step_without_end_is_left_in_time(
    start: Start, tmp_path: Path, whole: Callable[[str], Path]
) -> None:
    folder = tmp_path / "hanging"
    process = start(folder, "pretrain", pause=60)
    process.wait_for_step(1)
    process.send(signal.SIGTERM)
    began = time.monotonic()
    process.wait_for(lambda: not process.there())
    assert 0.9 < time.monotonic() - began < 5
    assert "no safe point came within 1 s" in process.output()
    finish(start, folder, "pretrain")
    same(folder, whole("pretrain"))


@pytest.mark.alone
@pytest.mark.slow
def test_a_second_signal_leaves_at_once(start: Start, tmp_path: Path, whole: Callable[[str], Path]) -> None:
    folder = tmp_path / "twice"
    process = start(folder, "pretrain", pause=60)
    process.wait_for_step(1)
    process.send(signal.SIGTERM)
    process.wait_for(lambda: "stopping" in process.output())
    process.send(signal.SIGTERM)
    began = time.monotonic()
    assert process.end() == 130
    assert time.monotonic() - began < 0.9
    finish(start, folder, "pretrain")
    same(folder, whole("pretrain"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_full_disk_while_saving_and_then_space_again(
    start: Start, tmp_path: Path, whole: Callable[[str], Path], small_disk: Path, killed: bool
) -> None:
    folder = tmp_path / "full"
    process = start(folder, "pretrain", pause=0.01, state=small_disk)
    process.wait_for_step(20)
    while not any("No space" in line for line in process.output().splitlines()) and process.there():
        fill(small_disk)
    assert "No space left on device; the one of step" in process.output()
    if killed:
        process.kill()
        process = start(folder, "pretrain", pause=0.01, state=small_disk)
        process.wait_for(lambda: "No space" in process.output())
        assert "going on from step" in process.output()
    (small_disk / "filler").unlink()
    assert process.end() == 0, process.output()
    assert (folder / "weights.bin").read_bytes() == (whole("pretrain") / "weights.bin").read_bytes()
    assert max(small_disk.glob("checkpoint-*")).name == "checkpoint-00000120"


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_while_training(
    start: Start, tmp_path: Path, whole: Callable[[str], Path], small_disk: Path
) -> None:
    """Training ends with the right weights; what it could not write, it said."""
    folder = tmp_path / "read-only"
    process = start(folder, "pretrain", pause=0.01, state=small_disk)
    process.wait_for_step(20)
    process.kill()
    kept = sorted(path.name for path in small_disk.glob("checkpoint-*"))
    (small_disk / "metrics.jsonl").unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = start(folder, "pretrain", state=small_disk)
    assert process.end() != 0
    assert "Read-only file system" in process.output() or "read-only" in process.output().lower()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert sorted(path.name for path in small_disk.glob("checkpoint-*")) == kept
    finish(start, folder, "pretrain", state=small_disk)
    assert (folder / "weights.bin").read_bytes() == (whole("pretrain") / "weights.bin").read_bytes()
