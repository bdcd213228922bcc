"""Artifacts appear whole or not at all, and damage is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.commit import commit_folder, link_atomic, write_bytes_atomic, write_json_atomic
from arriero.artifacts.manifest import MANIFEST
from arriero.errors import ArrieroError, DamagedArtifactError


def make_artifact(folder: Path, text: str = "weights", log: str = "line") -> Artifact:
    partial = folder.with_name(f".{folder.name}.partial")
    (partial / "logs").mkdir(parents=True)
    (partial / "data.txt").write_text(text)
    (partial / "logs" / "metrics.jsonl").write_text(log)
    manifest = Manifest(
        name=folder.name, kind="curate", makes="corpus", key="k" * 64, stage_version=1, settings={}, seed=1,
        files=list_files(partial), spec={"type": "corpus"}, started="a", ended="b",
    )  # fmt: skip
    write_json_atomic(partial / MANIFEST, manifest.model_dump(mode="json"))
    commit_folder(partial, folder)
    return Artifact.open(folder, hashes=True)


def test_a_committed_folder_opens_and_its_partial_is_gone(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    assert artifact.file("data.txt").read_text() == "weights"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_existing_artifact_is_never_overwritten(tmp_path: Path) -> None:
    make_artifact(tmp_path / "a", "first")
    with pytest.raises(ArrieroError, match="exists already"):
        make_artifact(tmp_path / "a", "second")
    assert (tmp_path / "a" / "data.txt").read_text() == "first"


def test_content_hash_follows_the_content_and_not_the_logs(tmp_path: Path) -> None:
    one = make_artifact(tmp_path / "one").manifest.content
    same = make_artifact(tmp_path / "same", log="another time").manifest.content
    other = make_artifact(tmp_path / "other", text="Weights").manifest.content
    assert one == same != other


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_damage_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    make_artifact(tmp_path / "a")
    file = tmp_path / "a" / "data.txt"
    if damage == "truncate":
        file.write_text("weig")
    elif damage == "remove":
        file.unlink()
    else:
        file.write_text("weightz")
    with pytest.raises(DamagedArtifactError) as error:
        Artifact.open(tmp_path / "a", hashes=True)
    assert "data.txt" in str(error.value) and "\n" not in str(error.value)


def test_a_cut_manifest_is_damage_and_a_missing_one_no_artifact(tmp_path: Path) -> None:
    make_artifact(tmp_path / "a")
    manifest = tmp_path / "a" / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:50])
    with pytest.raises(DamagedArtifactError, match=MANIFEST):
        Artifact.open(tmp_path / "a")
    manifest.unlink()
    with pytest.raises(ArrieroError, match="is not an artifact"):
        Artifact.open(tmp_path / "a")


def test_atomic_write_leaves_the_old_bytes_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    write_bytes_atomic(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_replaced_in_one_step_and_a_real_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    link_atomic(tmp_path / "link", tmp_path / "one")
    link_atomic(tmp_path / "link", tmp_path / "two")
    assert (tmp_path / "link").resolve() == (tmp_path / "two").resolve()
    with pytest.raises(ArrieroError, match="in the way"):
        link_atomic(tmp_path / "one", tmp_path / "two")


_WRITER = """
import sys
from pathlib import Path
from arriero.artifacts.commit import write_bytes_atomic
path = Path(sys.argv[1])
n = 0
while True:
    n += 1
    write_bytes_atomic(path, bytes([n % 251]) * 200_000)
    print(n, flush=True)
"""


def test_kill_9_while_writing_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.02)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = path.read_bytes()
        assert len(data) == 200_000 and len(set(data)) == 1
