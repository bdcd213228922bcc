"""kill -9 at random moments, then the same command: nothing is lost and the weights are the same bits."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arriero.artifacts import Artifact
from arriero.cost.ledger import Ledger
from arriero.recipe.runfolder import RunFolder


def _what(repository: Path, out: Path) -> list[str]:
    recipe = repository / "recipes" / "smoke.yaml"
    return [str(recipe), "--out", str(out), "--set", "base.checkpoint_every=5 steps"]


def _start(repository: Path, out: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "arriero", "run", *_what(repository, out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait_for(out: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 280
    while not list(out.glob(pattern)):
        assert process.poll() is None, f"ended before {pattern} appeared"
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{pattern} never appeared")
        time.sleep(0.01)


@pytest.mark.slow
def test_three_kills_leave_the_same_weights(
    smoke_run: Path, repository: Path, tmp_path: Path, cli_environment: dict[str, str], arriero
) -> None:
    chance = random.Random(20261121)
    out = tmp_path / "killed"
    moments = [
        "artifacts/.tokenizer-*.state",
        "artifacts/.base-*.state/checkpoint-*",
        "artifacts/.dpo-*.state",
    ]
    for moment in moments:
        process = _start(repository, out, cli_environment)
        _wait_for(out, moment, process)
        time.sleep(chance.uniform(0.0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    arriero("run", *_what(repository, out))
    for name in ("corpus", "tokens", "base", "sft", "dpo", "int8", "int4"):
        whole, killed = Artifact.open(smoke_run / name, hashes=True), Artifact.open(out / name, hashes=True)
        assert whole.manifest.content == killed.manifest.content, f"{name} differs after kills"
    assert [p.name for p in (out / "artifacts").glob(".*")] == []
    lines = Ledger(RunFolder(out).ledger).read()
    base = next(
        line for line in lines if line["type"] == "stage" and line["name"] == "base" and not line["reused"]
    )
    assert base["measured"]["segments"] >= 2, "the killed attempt's seconds count"


@pytest.mark.slow
def test_a_truncated_artifact_is_named_and_remade_after_its_removal(
    smoke_run: Path, repository: Path, tmp_path: Path, arriero
) -> None:
    out = tmp_path / "run"
    shutil.copytree(smoke_run, out, symlinks=True)
    weights = (out / "base").resolve() / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = arriero("run", repository / "recipes" / "smoke.yaml", "--out", out, code=2)
    last = done.stderr.strip().splitlines()[-1]
    assert "model.safetensors has 1,000 bytes" in last and "remove the folder" in last
    shutil.rmtree(weights.parent)
    arriero("run", repository / "recipes" / "smoke.yaml", "--out", out)
    assert (
        Artifact.open(out / "base", hashes=True).manifest.content
        == Artifact.open(smoke_run / "base").manifest.content
    )
