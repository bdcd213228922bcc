"""A recipe under torchrun: one process walks it, all of them train."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
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
