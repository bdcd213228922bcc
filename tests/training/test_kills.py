"""kill -9 in the middle of real processes: the weights end up the same bits."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("tiny_run.py")


def start(folder: Path, precision: str, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, precision, kind], stdout=subprocess.PIPE, text=True
    )


def finish(folder: Path, precision: str, kind: str) -> tuple[bytes, str]:
    output, _ = start(folder, precision, kind).communicate(timeout=120)
    return (folder / "weights.bin").read_bytes(), output


def kill_after(folder: Path, precision: str, kind: str, step: int, pause: float) -> None:
    process = start(folder, precision, kind)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == str(step):
            break
    time.sleep(pause)
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "kind"), [("fp32", "lora"), ("bf16", "lora"), ("fp32", "lstm")])
def test_killed_at_any_moment_the_weights_are_the_same_bits(
    tmp_path: Path, precision: str, kind: str
) -> None:
    chance = random.Random(1)
    whole, _ = finish(tmp_path / "whole", precision, kind)
    folder = tmp_path / "killed"
    for step in (6, 21, 40):
        kill_after(folder, precision, kind, step, chance.uniform(0.0, 0.03))
    newest = max(folder.glob("checkpoint-*"))
    tensors = newest / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    found, output = finish(folder, precision, kind)
    assert "is damaged" in output and "going on from step" in output
    assert found == whole
    lines = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").open()]
        for run in ("whole", "killed")
    ]
    steps = [[(line["step"], line.get("loss")) for line in run] for run in lines]
    assert steps[0] == steps[1], "no step is logged twice, and the losses are the same"
