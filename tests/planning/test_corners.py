"""When micro-batches of one sequence are traced by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.workload import workload_of
from arriero.planning.memory.kept import KeptProfiles
from arriero.planning.memory.profile import memory_profile
from arriero.planning.memory.profiles import traced_work
from arriero.training.objectives.base import Shape

LENGTH = 64


def alone(vocab_size: int, objective: str, scored: int, **how: Any) -> bool:
    config = DecoderConfig(
        vocab_size=vocab_size, d_model=48, n_layers=1, n_heads=4, n_kv_heads=4, head_dim=4, d_ff=36, context_length=LENGTH
    )  # fmt: skip
    kept = workload_of(config, context=LENGTH, modes=("none",), objective=objective, **how).memory
    assert isinstance(kept, KeptProfiles)
    work = traced_work(kept.config, kept.subject, "none")
    return memory_profile(work, Shape(1, LENGTH, scored)).single is not None


@pytest.mark.parametrize("vocab_size", [300, 20_000])
def test_a_head_in_parts_is_no_reason(
    vocab_size: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the larger vocabulary two sequences take more parts than one, of which the head's corners tell already."""
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))
    assert not alone(vocab_size, "causal", LENGTH)


def test_blocks_that_do_otherwise_with_one_sequence_are(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))
    assert alone(130, "sft", LENGTH // 2, dtype="bf16")
