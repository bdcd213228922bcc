"""Figures that the system keeps of this process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from arriero.cost.procfs import process_age


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
def test_the_age_of_a_process_counts_from_its_start() -> None:
    code = "import time; time.sleep(0.3)\nfrom arriero.cost.procfs import process_age\nprint(process_age())"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.25 < float(done.stdout) < time.monotonic() - begun + 0.05
    first = process_age()
    time.sleep(0.05)
    second = process_age()
    assert first is not None
    assert second is not None
    assert 0.04 < second - first < 5


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert process_age(tmp_path) is None


def test_a_name_with_brackets_and_blanks_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    fields = ["0"] * 18 + ["100"] + ["0"] * 5
    (tmp_path / "self" / "stat").write_text(f"1 (a) b ) S {' '.join(fields)}")
    assert process_age(tmp_path) > 0  # type: ignore[operator]
