"""Our encoders against transformers', every family with every head, both directions, on small random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parity.encoder_cases import (
    FAMILIES,
    TASKS,
    cases,
    make_inputs,
    make_labels,
    make_theirs,
    run_theirs,
)

from arriero.models.checkpoint import load_model, save_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

LENGTHS = {"none": (1, 7), "right": (3, 13), "left": (3, 22), "holes": (2, 17)}
"""Padding -> batch, length."""


def assert_close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    if isinstance(ours, tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
        return
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp(min=1e-3)


def compare(ours: Any, theirs: Any, task: str, padding: str) -> None:
    batch, length = LENGTHS[padding]
    inputs = make_inputs(theirs, task, batch, length, padding)
    labels = None if task == "none" else make_labels(theirs, task, inputs["ids"])
    expected, loss = run_theirs(theirs, task, inputs, labels)
    with torch.no_grad():
        outputs = ours(**inputs)
        assert_close(outputs, expected)
        if labels is not None:
            assert_close(ours.loss(outputs, labels), loss)


@pytest.mark.parametrize(("name", "task"), cases())
def test_both_directions(name: str, task: str, tmp_path: Path) -> None:
    theirs = make_theirs(transformers, name, task)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.config.task == task
    for padding in LENGTHS:
        compare(ours, theirs, task, padding)
    save_model(ours, tmp_path / "ours")
    again, report = getattr(transformers, FAMILIES[name][0] + TASKS[task]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert load_model(tmp_path / "ours").config == ours.config
    compare(ours, again.eval(), task, "right")
