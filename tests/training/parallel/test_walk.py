"""A recipe under torchrun: one process walks it, all of them train."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

RECIPE = """
name: pair
seed: 1
stages:
  corpus:
    kind: curate
    sources:
      - {name: texts, path: texts.jsonl, license: CC0-1.0}
    rules: {presets: [none], min_words: 5}
  tokenizer:
    inputs: {corpus: corpus}
    vocab_size: 300
  tokens:
    kind: tokenize
    inputs: {corpus: corpus, tokenizer: tokenizer}
  base:
    kind: pretrain
    inputs: {tokens: tokens}
    d_model: 32
    d_ff: 64
    n_layers: 2
    n_heads: 4
    n_kv_heads: 2
    context_length: 32
    duration: 12 steps
    batch_size: 6
    eval_samples: 16
    precision: fp32
    threads: 1
    log_every: 1
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "arriero"]
ALONE = [sys.executable, "-m", "arriero"]


def write_recipe(folder: Path) -> None:
    draw = random.Random(0)
    words = [
        "llama",
        "pack",
        "mountain",
        "rope",
        "river",
        "carry",
        "salt",
        "train",
        "bell",
        "night",
        "stone",
        "road",
    ]
    texts = (" ".join(draw.choice(words) for _ in range(60)) + f" {i}." for i in range(300))
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "texts.jsonl").write_text("".join(lines))
    (folder / "pair.yaml").write_text(RECIPE)


@pytest.mark.slow
def test_one_process_walks_and_all_train(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    write_recipe(tmp_path)

    def call(command: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env={**cli_environment, "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    for command, out in ((ALONE, "alone"), (TORCHRUN, "pair")):
        done = call(command, "run", "pair.yaml", "--out", out)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("[4/4] base") == 1 and done.stdout.count("report: ") == 1
    alone, pair = (load_file(tmp_path / out / "base" / "model.safetensors") for out in ("alone", "pair"))
    for name, value in alone.items():
        assert_close(pair[name], value, atol=1e-4, rtol=0)
    logs = [
        [json.loads(line) for line in (tmp_path / out / "base/logs/metrics.jsonl").read_text().splitlines()]
        for out in ("alone", "pair")
    ]
    steps = [[line["step"] for line in lines if "grad_norm" in line] for lines in logs]
    assert steps[0] == steps[1] == list(range(1, 13))
    again = call(ALONE, "run", "pair.yaml", "--out", "pair")  # the division is no part of the key
    assert "base: reused" in again.stderr
    wanted = call(ALONE, "run", "pair.yaml", "--out", "new", "--set", "base.parallel={tensor: 2}")
    assert wanted.returncode == 2 and "torchrun --nproc-per-node 2 -m arriero run" in wanted.stderr
    assert not list((tmp_path / "new" / "artifacts").iterdir()), "refused before anything ran"
    wrong = call(TORCHRUN, "run", "pair.yaml", "--out", "new", "--set", "base.parallel={context: 3}")
    assert "does not divide the 2 processes" in wrong.stderr


def _updates(out: Path) -> int:
    """Optimizer updates that an unfinished run has logged."""
    logs = [log.read_text() for log in out.glob("artifacts/.base-*.state/metrics.jsonl")]
    return max((log.count('"grad_norm"') for log in logs), default=0)


def _children(pid: int) -> list[int]:
    found = (task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for children in found for child in children]


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on(tmp_path: Path, cli_environment: dict[str, str]) -> None:
    """A scheduler's SIGTERM, to torchrun and later to one process of the group: each time all stop after the same step,
    with a checkpoint, and the same command goes on, at last to the bits of a run that nobody stopped."""
    write_recipe(tmp_path)
    more = ["--set", "base.duration=40 steps", "--set", "base.checkpoint_every=1000 steps"]

    def start(out: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*TORCHRUN, "run", "pair.yaml", "--out", out, *more], cwd=tmp_path,
            env={**cli_environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    reached = 0
    for to in ("torchrun", "last process"):
        with start("stopped") as stopped:
            deadline = time.monotonic() + 200
            while _updates(tmp_path / "stopped") < reached + 5 and time.monotonic() < deadline:
                time.sleep(0.05)
            os.kill(stopped.pid if to == "torchrun" else max(_children(stopped.pid)), signal.SIGTERM)
            said = stopped.communicate(timeout=100)[1]
        assert stopped.returncode != 0
        step = re.search(r"stopped at step (\d+) of 40; the same command goes on from there", said)
        assert step is not None and reached + 5 <= int(step[1]) < 40, said[-2000:]
        reached = int(step[1])
        (state,) = (tmp_path / "stopped").glob(f"artifacts/.base-*.state/checkpoint-{reached:08d}")
        assert (state / "complete.json").exists()
    for out in ("stopped", "whole"):
        with start(out) as process:
            said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said[-3000:]
    went_on, whole = (
        load_file(tmp_path / out / "base" / "model.safetensors") for out in ("stopped", "whole")
    )
    assert all(torch.equal(went_on[name], value) for name, value in whole.items())
