"""Several processes save and load together, under one layout and under another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("group.py")


Together = Callable[[int, Path, str], list[str]]


@pytest.fixture(scope="module")
def together(warm_python: Path) -> Together:
    """``together(size, folder, task)`` runs the task on ``size`` ranks; what each wrote."""

    def run(size: int, folder: Path, task: str) -> list[str]:
        ranks = [
            subprocess.Popen(
                [warm_python, SCRIPT, str(rank), str(size), folder, task],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(size)
        ]  # fmt: skip
        outputs = [rank.communicate(timeout=120) for rank in ranks]
        assert all(rank.returncode == 0 for rank in ranks), "\n".join(error for _, error in outputs)
        return [output for output, _ in outputs]

    return run


@pytest.mark.slow
def test_a_checkpoint_saved_under_one_layout_loads_under_another(together: Together, tmp_path: Path) -> None:
    """2 -> 4 -> 1 -> 2 processes; rows, columns, both, and copies of halves."""
    for size, task in ((2, "two"), (4, "four"), (1, "one"), (2, "two_again")):
        together(size, tmp_path, task)


@pytest.mark.slow
def test_what_goes_wrong_on_one_rank_is_said_once_and_known_to_all(
    together: Together, tmp_path: Path
) -> None:
    first, second = together(2, tmp_path, "faults")
    assert second == ""
    assert "no checkpoint at step 2: No space left on device; the one of step 1 stays" in first
    assert "no checkpoint at step 3: rank 1: No space left on device; the one of step 1 stays" in first
    assert "checkpoint of step 4 is damaged (rank-00001.safetensors is not what was written)" in first


@pytest.mark.slow
def test_sharded_training_goes_on_under_another_number_of_ranks(together: Together, tmp_path: Path) -> None:
    """FSDP over 2, then alone, then over 4: as if one process had done it all."""
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    for folder, sizes in ((alone, (1, 1, 1)), (moved, (2, 1, 4))):
        folder.mkdir()
        for at, size in enumerate(sizes):
            together(size, folder, f"train{at}")
    for step in (1, 2, 3):
        whole, other = (torch.load(folder / f"weights-{step}.pt") for folder in (alone, moved))
        assert whole.keys() == other.keys()
        for name in whole:
            torch.testing.assert_close(other[name], whole[name], rtol=0, atol=1e-6)
