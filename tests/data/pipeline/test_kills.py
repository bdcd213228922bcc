from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from arriero.tokenization.sample_text import sample_texts


def recipe(folder: Path, workers: int) -> Path:
    texts = [text + " tail" * (n % 3) for n, text in enumerate(sample_texts(400_000, words_per_text=60) * 2)]
    for number in range(3):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[number::3])
        (folder / f"s{number}.jsonl").write_text(lines)
    stage = {
        "kind": "curate",
        "sources": [{"path": f"s{number}.jsonl", "license": "CC0-1.0"} for number in range(3)],
        "rules": {"presets": ["none"], "min_words": 10},
        "dedup": {"lines": {}},
        "split_bytes": 30_000,
        "shard_bytes": 100_000,
        "executor": {"kind": "pool", "workers": workers},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "kills", "seed": 1, "stages": {"corpus": stage}}))
    return path


def run(recipe: Path, out: Path, kill_after: float | None = None) -> int:
    """The exit status; the whole group of processes is killed after so many seconds."""
    command = [sys.executable, "-m", "arriero", "run", str(recipe), "--out", str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return -signal.SIGKILL


def corpus(out: Path) -> dict[str, str]:
    folder = out / "corpus"
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json" and path.parent.name != "logs"
    )
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_killed_at_any_moment_the_corpus_is_the_same(arriero, kills: int, tmp_path: Path) -> None:
    path = recipe(tmp_path, workers=2)
    arriero(
        "run", path, "--out", tmp_path / "warm"
    )  # measures the machine once, so that kills fall into the stage
    started = time.monotonic()
    assert run(path, tmp_path / "whole") == 0
    seconds = time.monotonic() - started
    rng = random.Random(5)
    whole, killed = corpus(tmp_path / "whole"), 0
    for number in range(4 * kills):
        out = tmp_path / f"try{number}"
        while killed < kills and run(path, out, rng.uniform(0.1, 0.7) * seconds) != 0:
            killed += 1
        arriero("run", path, "--out", out)
        assert corpus(out) == whole
        if killed == kills:
            return
    pytest.fail(f"only {killed} kills fell into a run")


@pytest.fixture(params=[pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)])
def kills(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found
