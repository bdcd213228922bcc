from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from arriero.errors import ArrieroError
from arriero.recipe.tensorboard import EventFile, writer_class


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads from the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    names = found.Tags()["tensors"]
    return {
        name: [(event.step, float(event.tensor_proto.float_val[0])) for event in found.Tensors(name)]
        for name in names
    }


def test_tensorboard_reads_the_numbers_of_every_step(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "pretrain")
    file.add({"step": 1, "loss": 2.5, "note": "text", "flag": True}, list)
    file.add({"step": 2, "loss": 2.25, "lr": 0.001}, list)
    file.add({"loss": 9.0}, list)
    file.close()
    assert scalars(tmp_path / "pretrain") == {
        "loss": [(1, 2.5), (2, 2.25)],
        "lr": [(2, pytest.approx(0.001))],
    }


def test_a_resumed_run_shows_each_step_once(tmp_path: Path) -> None:
    first = EventFile(tmp_path)
    lines: list[dict[str, Any]] = [{"step": n, "loss": float(n)} for n in range(1, 6)]
    for number, line in enumerate(lines):
        first.add(line, lambda number=number: lines[:number])
    first.close()
    second = EventFile(tmp_path)  # goes on from step 3
    second.add({"step": 4, "loss": 4.5}, lambda: lines[:3])
    second.close()
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.5)]


def test_without_tensorboard_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ArrieroError, match=r"pip install 'arriero\[tensorboard\]'"):
        writer_class()
