from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
from arriero.cost.allocator import keep_freed_memory, start_afresh
from arriero.cost.procfs import resident_bytes
import torch

if not keep_freed_memory():
    raise SystemExit(3)
before = resident_bytes()
pieces = [torch.ones(2**20) for _ in range(64)]
pieces.append(pieces)  # a cycle, as training leaves them
del pieces
kept = resident_bytes() - before
start_afresh()
print(kept, resident_bytes() - before)
"""


def test_a_stage_starts_without_what_the_one_before_it_left() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this C library has no such switch")
    kept, left = map(int, done.stdout.split())
    assert kept > 200 * 2**20
    assert left < 40 * 2**20
