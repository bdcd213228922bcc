from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.training import checkpoint
from arriero.training.checkpoint import MARKER, STATE, TENSORS, CheckpointStore

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(5), "c": torch.tensor(2.5)}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> CheckpointStore:
    return CheckpointStore(tmp_path, 2, said.append)


def folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def test_what_was_saved_comes_back(store: CheckpointStore) -> None:
    assert store.latest() is None
    assert store.save(7, WEIGHTS, {"totals": {"loss": 0.1}})
    found = store.latest()
    assert found is not None and found.step == 7 and found.state == {"totals": {"loss": 0.1}}
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in WEIGHTS.items())


def test_the_newest_few_are_kept(store: CheckpointStore, tmp_path: Path) -> None:
    for step in (1, 2, 3, 11):
        store.save(step, WEIGHTS, {})
    assert folders(tmp_path) == ["checkpoint-00000003", "checkpoint-00000011"]


@pytest.mark.parametrize("name", [TENSORS, STATE, MARKER])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    store: CheckpointStore, tmp_path: Path, said: list[str], name: str, harm: str
) -> None:
    store.save(1, WEIGHTS, {"n": 1})
    store.save(2, WEIGHTS, {"n": 2})
    path = tmp_path / "checkpoint-00000002" / name
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    found = store.latest()
    assert found is not None and found.step == 1
    assert len(said) == 1 and "step 2" in said[0] and "going back" in said[0]
    assert folders(tmp_path) == ["checkpoint-00000001"]
    assert store.save(2, WEIGHTS, {}), "the same step can be saved again"


def test_a_checkpoint_of_another_run_is_not_taken(store: CheckpointStore, said: list[str]) -> None:
    store.save(5, WEIGHTS, {"fingerprint": "theirs"})
    assert store.latest(lambda state: state["fingerprint"] == "ours") is None
    assert "another run" in said[0]


def test_what_a_kill_left_half_written_is_swept_away(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(1, WEIGHTS, {})
    half = tmp_path / ".checkpoint-00000002.partial"
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")
    found = store.latest()
    assert found is not None and found.step == 1
    assert not half.exists()


def test_a_failing_write_leaves_the_last_good_one(
    store: CheckpointStore, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(1, WEIGHTS, {})

    def full(*args: Any) -> None:
        (args[0]).write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    assert not store.save(2, WEIGHTS, {})
    assert folders(tmp_path) == ["checkpoint-00000001"]
    assert said == [
        "no checkpoint at step 2: No space left on device; the one of step 1 stays, training goes on"
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_really_full_disk(small_disk: Path, said: list[str]) -> None:
    store = CheckpointStore(small_disk, 1, said.append)
    assert store.save(1, {"a": torch.zeros(100_000)}, {})
    assert not store.save(2, {"a": torch.zeros(1_000_000)}, {})
    assert "No space left" in said[0]
    assert folders(small_disk) == ["checkpoint-00000001"]
    found = store.latest()
    assert found is not None and found.step == 1
