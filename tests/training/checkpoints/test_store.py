from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arriero.errors import ArrieroError
from arriero.training.checkpoints import commit, writer
from arriero.training.checkpoints.layout import LAYOUT, MARKER, STATE, plain_name, rank_file, tensor_file
from arriero.training.checkpoints.retention import Retention
from arriero.training.checkpoints.staging import Staging
from arriero.training.checkpoints.store import CheckpointStore, Found

TENSORS = tensor_file(0)
WEIGHTS = {
    "a": torch.arange(6.0).view(2, 3),
    "b": torch.arange(5),
    "c": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "turned": torch.arange(12.0, dtype=torch.bfloat16).view(3, 4).T,
    "yes": torch.tensor([True, False]),
}
Make = Callable[..., CheckpointStore]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str]) -> Make:
    return lambda *kept: CheckpointStore(tmp_path, Retention(*(kept or (2,))), said.append)


@pytest.fixture
def store(make: Make) -> CheckpointStore:
    return make()


def folders(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def loaded(store: CheckpointStore, found: Found | None) -> dict[str, torch.Tensor]:
    assert found is not None
    held = {name: torch.full(shape, 7).to(dtype) for name, (shape, dtype) in found.shapes().items()}
    store.load(found, held)
    return held


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("staged", [True, False])
def test_what_was_saved_comes_back(tmp_path: Path, wait: bool, staged: bool) -> None:
    store = CheckpointStore(tmp_path, Retention(1), print, staging=Staging(always=staged))
    assert store.newest() is None
    tensors = {name: tensor.clone() for name, tensor in WEIGHTS.items()}
    assert store.save(7, tensors, {"totals": {"loss": 0.1}}, {"random": [1]}, wait=wait)
    for tensor in tensors.values():
        tensor.zero_()  # what training does next is not in it
    assert store.settle()
    found = store.newest()
    assert found is not None and found.step == 7
    assert found.state == {"totals": {"loss": 0.1}} and found.own == {"random": [1]}
    held = loaded(store, found)
    assert held.keys() == WEIGHTS.keys()
    assert all(torch.equal(held[name], tensor) for name, tensor in WEIGHTS.items())


def test_any_safetensors_reader_finds_the_tensors_by_name(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(1, WEIGHTS, {})
    held = load_file(tmp_path / "checkpoint-00000001" / TENSORS)
    assert all(torch.equal(held[name], tensor) for name, tensor in WEIGHTS.items())
    assert not any(b"\x80\x02" in p.read_bytes()[:2] for p in (tmp_path / "checkpoint-00000001").iterdir())


def test_names_are_the_plain_models() -> None:
    name = "_orig_mod.blocks.0._checkpoint_wrapped_module._fsdp_wrapped_module.attention.q_proj.weight"
    assert plain_name(name) == "blocks.0.attention.q_proj.weight"
    assert plain_name("module.weight") == "module.weight"


def test_the_newest_the_best_and_the_permanent_ones_are_kept(make: Make, tmp_path: Path) -> None:
    store = make(1, 1, 10)
    for step, loss in ((1, 0.5), (10, None), (11, 0.7), (12, 0.1), (13, 0.2), (20, None), (21, None)):
        store.save(step, WEIGHTS, {}, loss=loss)
    assert folders(tmp_path) == [f"checkpoint-{step:08d}" for step in (10, 12, 20, 21)]
    assert [(one.step, one.loss) for one in store.saved()] == [(10, None), (12, 0.1), (20, None), (21, None)]


@pytest.mark.parametrize("name", [TENSORS, STATE, LAYOUT, MARKER, rank_file(0)])
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    store: CheckpointStore, tmp_path: Path, said: list[str], name: str, harm: str
) -> None:
    store.save(1, WEIGHTS, {"n": 1}, {"m": 1})
    store.save(2, WEIGHTS, {"n": 2}, {"m": 2})
    path = tmp_path / "checkpoint-00000002" / name
    data = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    found = store.newest()
    assert found is not None and found.step == 1
    assert len(said) == 1 and "step 2" in said[0] and "going back" in said[0]
    assert folders(tmp_path) == ["checkpoint-00000001"]
    assert store.save(2, WEIGHTS, {}), "the same step can be saved again"


def test_every_single_flipped_bit_of_the_tensors_is_noticed(store: CheckpointStore, tmp_path: Path) -> None:
    store.save(1, {"a": torch.zeros(4)}, {})
    path = tmp_path / "checkpoint-00000001" / TENSORS
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert store.open(1) == f"is damaged ({TENSORS} is not what was written)"
    path.write_bytes(whole)
    assert isinstance(store.open(1), Found)


def test_a_checkpoint_of_another_run_is_not_taken(store: CheckpointStore, said: list[str]) -> None:
    store.save(5, WEIGHTS, {"fingerprint": "theirs"})
    ours = {"fingerprint": "ours"}
    assert store.newest(lambda found: None if found.state == ours else "is of another run") is None
    assert "step 5 is of another run" in said[0]


def test_the_format_of_before_is_refused_by_name(
    store: CheckpointStore, tmp_path: Path, said: list[str]
) -> None:
    old = tmp_path / "checkpoint-00000003"
    old.mkdir()
    (old / "tensors.safetensors").write_bytes(b"")
    (old / MARKER).write_text(json.dumps({"format": "arriero.checkpoint/1", "step": 3, "sha256": {}}))
    assert store.newest() is None
    assert "arriero.checkpoint/1" in said[0] and "arriero.checkpoint/2" in said[0]


def test_going_back_to_before_a_step_drops_what_came_after_it(store: CheckpointStore, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, Retention(9), lambda line: None)
    for step in (2, 4, 6, 8):
        store.save(step, WEIGHTS, {})
    assert store.newest(before=2) is None
    assert len(folders(tmp_path)) == 4, "nothing to go back to: nothing is dropped"
    found = store.newest(before=6)
    assert found is not None and found.step == 4
    assert folders(tmp_path) == ["checkpoint-00000002", "checkpoint-00000004"]


def test_what_a_kill_left_half_written_or_half_removed_is_swept_away(
    store: CheckpointStore, tmp_path: Path
) -> None:
    store.save(1, WEIGHTS, {})
    for name in (".checkpoint-00000002.partial", ".checkpoint-00000000.old.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / TENSORS).write_bytes(b"half")
    found = store.newest()
    assert found is not None and found.step == 1
    assert folders(tmp_path) == ["checkpoint-00000001"]


@pytest.mark.parametrize("module", [writer, commit], ids=["while saving", "in the background"])
def test_a_failing_write_leaves_the_last_good_one(
    store: CheckpointStore, tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    store.save(1, WEIGHTS, {})

    def full(path: Path, *rest: Any) -> None:
        path.with_name("some-of-it").write_bytes(b"some of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_tensors" if module is writer else "fsync_path", full)
    assert store.save(2, WEIGHTS, {}, wait=False) == (module is commit), "what fails later is said later"
    counted: list[int] = []
    assert not store.save(3, WEIGHTS, {}, done=lambda: counted.append(3))
    store.poll()
    assert folders(tmp_path) == ["checkpoint-00000001"] and counted == []
    assert said == [
        f"no checkpoint at step {step}: No space left on device; the one of step 1 stays, training goes on"
        for step in (2, 3)
    ]


def test_it_is_done_when_it_is_complete_and_not_before(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    store.save(4, WEIGHTS, {}, wait=False, done=lambda: seen.append(folders(tmp_path)))
    store.settle()
    assert seen == [["checkpoint-00000004"]]
    store.save(4, WEIGHTS, {}, done=lambda: seen.append([]))
    assert len(seen) == 2, "it was there already"


def test_a_save_waits_for_the_one_before(
    store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go, real = threading.Event(), commit.commit_folder

    def slow(partial: Path, final: Path) -> None:
        assert go.wait(10)
        real(partial, final)

    monkeypatch.setattr(commit, "commit_folder", slow)
    store.save(1, WEIGHTS, {}, wait=False)
    assert store.busy and folders(tmp_path) == [".checkpoint-00000001.partial"]
    go.set()
    store.save(2, WEIGHTS, {}, wait=False)
    assert "checkpoint-00000001" in folders(tmp_path)
    store.settle()
    assert not store.busy and store.cpu_seconds() > 0


def test_what_no_file_can_hold_is_one_line(store: CheckpointStore) -> None:
    with pytest.raises(ArrieroError, match=r"'odd' is of torch\.complex64"):
        store.save(1, {"odd": torch.zeros(2, dtype=torch.complex64)}, {})


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


@pytest.mark.parametrize("staged", [True, False])
def test_a_really_full_disk(small_disk: Path, said: list[str], staged: bool) -> None:
    store = CheckpointStore(small_disk, Retention(1), said.append, staging=Staging(always=staged))
    assert store.save(1, {"a": torch.zeros(100_000)}, {})
    assert not store.save(2, {"a": torch.zeros(1_000_000)}, {})
    assert "No space left" in said[0]
    assert folders(small_disk) == ["checkpoint-00000001"]
    found = store.newest()
    assert found is not None and found.step == 1


def test_a_folder_that_cannot_be_written(small_disk: Path, said: list[str]) -> None:
    store = CheckpointStore(small_disk, Retention(1), said.append)
    assert store.save(1, WEIGHTS, {})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert not store.save(2, WEIGHTS, {})
    assert "Read-only file system; the one of step 1 stays" in said[0]
    found = store.newest()
    assert found is not None and found.step == 1
