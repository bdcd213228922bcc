"""Bad input and bad luck: one clear line, exit code 2 (or 3), no traceback, nothing half-made."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

RECIPE = """\
name: small
stages:
  corpus:
    kind: curate
    sources:
      - {{path: {path}, license: CC0-1.0}}
  tokenizer:
    inputs: {{corpus: corpus}}
    vocab_size: 300
"""


def write_recipe(folder: Path, content: bytes, name: str = "text.txt") -> Path:
    (folder / name).write_bytes(content)
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE.format(path=name))
    return recipe


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


TEXT = b"\n\n".join(
    b"The llama went over mountain number %d and came back with a load of salt and wool." % n
    for n in range(200)
)


@pytest.mark.slow
def test_a_file_that_is_not_utf8(arriero, tmp_path: Path) -> None:
    done = arriero(
        "run", write_recipe(tmp_path, TEXT + b"\n\n\xff\xfe broken"), "--out", tmp_path / "out", code=2
    )
    line = last_line(done)
    assert "text.txt" in line and "UTF-8" in line
    assert not [p for p in (tmp_path / "out" / "artifacts").iterdir() if not p.name.startswith(".")]


@pytest.mark.slow
def test_a_corpus_that_curation_empties(arriero, tmp_path: Path) -> None:
    done = arriero("run", write_recipe(tmp_path, b"1 2 3\n\n4 5 6\n"), "--out", tmp_path / "out", code=2)
    assert "corpus" in last_line(done) and "empty" in last_line(done)


@pytest.mark.slow
def test_mistakes_in_a_recipe_leave_through_the_command_line(arriero, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, TEXT)
    recipe.write_text(recipe.read_text().replace("vocab_size", "vocabsize"))
    done = arriero("plan", recipe, code=2)
    assert (
        done.stderr.strip()
        == f"arriero: {recipe}:9: stage 'tokenizer': unknown key 'vocabsize'; did you mean 'vocab_size'?"
    )


@pytest.mark.slow
def test_a_budget_that_does_not_fit(arriero, repository: Path, tmp_path: Path) -> None:
    recipe = repository / "recipes" / "smoke.yaml"
    done = arriero("run", recipe, "--out", tmp_path / "out", "--max-seconds", "0.0001", code=3)
    assert "stage 'corpus'" in last_line(done) and "breaks it" in last_line(done)
    done = arriero("run", recipe, "--out", tmp_path / "out", "--max-memory", "100MB", code=3)
    assert "may need up to" in last_line(done) and "would fit" in last_line(done)
    assert list((tmp_path / "out" / "artifacts").iterdir()) == []


@pytest.mark.slow
def test_a_taken_port(arriero, smoke_run: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = arriero("serve", smoke_run / "int8", "--port", port, code=2)
    assert str(port) in last_line(done) and "--port" in last_line(done)


def _mount_tmpfs(folder: Path, size: str) -> bool:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_one_line_and_what_was_finished_is_intact(
    arriero, repository: Path, tmp_path: Path
) -> None:
    recipe = repository / "recipes" / "smoke.yaml"
    disk = tmp_path / "disk"
    if not _mount_tmpfs(disk, "10M"):
        pytest.skip("no permission to mount a tmpfs")
    try:
        arriero("run", recipe, "--out", disk / "out", "--until", "corpus")
        before = sorted(p.name for p in (disk / "out" / "artifacts").iterdir())
        (disk / "ballast").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        done = arriero("run", recipe, "--out", disk / "out", "--until", "base", code=2)
        assert "disk is full" in last_line(done)
        assert (
            sorted(p.name for p in (disk / "out" / "artifacts").iterdir() if not p.name.startswith("."))
            == before
        )
        (disk / "ballast").unlink()
        arriero("run", recipe, "--out", disk / "out", "--until", "base")
        arriero("show", disk / "out" / "corpus")
    finally:
        subprocess.run(["umount", str(disk)], check=True)
