"""What a process keeps of planning and of earlier stages is part of a later stage's predicted peak."""

from __future__ import annotations

import pytest
from tests.recipe.conftest import made_up_profile, sheet

from arriero.cost.estimate import Estimate
from arriero.recipe.kept import COMPUTES, KEPT, PLANNED, SPREAD, with_kept

DEVICE = made_up_profile()


def test_a_stage_alone_keeps_what_planning_left() -> None:
    before, found = sheet().peak_memory, with_kept(sheet(), "pretrain", [], DEVICE).peak_memory
    assert found.value == before.value + PLANNED
    assert found.low == before.low + PLANNED / (1 + SPREAD)
    assert found.high == before.high + PLANNED * (1 + SPREAD)
    assert "keeps" in found.source


def test_each_kind_adds_once_and_for_itself_too() -> None:
    def value(kind: str, *before: str) -> float:
        peak = with_kept(sheet(), kind, before, DEVICE).peak_memory.value
        assert peak is not None
        return peak

    alone, after = value("quantize"), value("quantize", "pretrain", "sft", "sft", "dpo")
    assert after - alone == KEPT["sft"] + KEPT["dpo"]
    assert value("sft") == value("sft", "sft") == value("sft", "pretrain", "sft")
    order = ["pretrain", "sft", "dpo", "quantize", "evaluate", "export"]
    grown = [value(kind, *order[:place]) for place, kind in enumerate(order)]
    assert grown == sorted(grown)


def test_other_stages_and_accelerators_are_left_as_they_are() -> None:
    assert set(KEPT) <= COMPUTES
    assert with_kept(sheet(), "tokenize", ["sft"], DEVICE) == sheet()
    assert with_kept(Estimate(), "sft", [], DEVICE) == Estimate()
    on_gpu = DEVICE.model_copy(update={"device": "cuda"})
    assert with_kept(sheet(), "sft", ["sft"], on_gpu) == sheet()


def test_only_peak_memory_changes() -> None:
    found = with_kept(sheet(), "sft", ["pretrain"], DEVICE)
    assert found.seconds == sheet().seconds and found.flops == sheet().flops
    assert found.peak_memory.value == pytest.approx(100e6 + PLANNED + KEPT["sft"])
