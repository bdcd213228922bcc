"""What a command needs before it knows what to do must not load torch."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["quantity", "estimate", "device", "tariffs", "meter", "counters", "ledger", "allocator"]
)
def test_light_modules_do_not_load_torch(module: str) -> None:
    code = f"import sys, arriero.cost.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_freed_memory_is_kept_and_returned_without_complaint() -> None:
    from arriero.cost.allocator import keep_freed_memory, return_freed_memory

    expected = sys.platform.startswith("linux")
    assert keep_freed_memory() in (expected, False)
    assert isinstance(return_freed_memory(), bool)
