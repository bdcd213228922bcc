"""What a plan says of resident memory: less where tensors have a range of their own, and what such a process really holds."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from arriero.training import plan

MIB = 2**20

_SCRIPT = """
import torch
from arriero.cost.allocator import give_tensors_a_range, keep_freed_memory
from arriero.cost.procfs import resident_bytes
keep_freed_memory()
torch.set_num_threads(1)
before = peak = resident_bytes()
kept, small, live, most = [], [], 0, 0
for turn in range(60):  # as with recomputation: something short, something that stays, small objects between them
    short = [torch.ones((3 + (turn * 7 + n) % 5) * 2**18) for n in range(3)]
    kept.append(torch.ones(2**18))
    small.append([torch.empty(19) for _ in range(50)])
    most = max(most, sum(t.numel() * 4 for t in kept + short))
    peak = max(peak, resident_bytes())
    del short
print(int(give_tensors_a_range()), most, peak - before)
"""


def test_tensors_in_a_range_leave_less_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    device: Any = SimpleNamespace(process_bytes=300 * MIB)
    found = []
    for has_range in (True, False):
        monkeypatch.setattr(plan, "give_tensors_a_range", lambda found=has_range: found)
        found.append([plan.resident_bytes(device, live) / MIB for live in (0.0, 100.0 * MIB, 1000.0 * MIB)])
    assert found[0] == pytest.approx([300, 405, 1350])
    assert found[1] == pytest.approx([300, 300 + 112 + 50, 300 + 1120 + 80])


def held(**environment: str) -> tuple[int, float]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ranged, live, more = map(int, done.stdout.split())
    return ranged, more / live


def test_small_objects_do_not_make_a_process_grow() -> None:
    ranged, ours = held()
    if not ranged:
        pytest.skip("tensors have no range here")
    assert ours < 1.5
    # where the heap lies is drawn for each process, and only in some places do its small objects pin so much
    heaps = (held(ARRIERO_TENSOR_MEMORY="0") for _ in range(16))
    assert any(not in_heap and theirs > 2 for in_heap, theirs in heaps)
