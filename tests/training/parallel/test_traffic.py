"""How often FSDP gathers weights and scatters gradients in a step, and what a pipeline's stages send: what
cost/time/traffic.py prices."""

from __future__ import annotations

from typing import Any

import pytest

BLOCKS = 4
"""Of the worker's model. What stands beside the blocks, in the model or in a stage, is one group more."""


@pytest.mark.slow
def test_a_pipeline_gathers_once_a_step_what_others_gather_twice_a_micro_batch(together: Any) -> None:
    def case(parallel: dict[str, int]) -> dict[str, Any]:
        settings = {"parallel": parallel, "batch_size": 8, "micro_batch_size": 1}
        return {"what": "traffic", "objective": "sft", "family": "llama", "settings": settings}

    for found, gathers, scatters in zip(
        together(4, [case({}), case({"pipeline": 2})]),
        # the group beside the blocks stays whole between the passes
        (lambda n: n * (2 * BLOCKS + 1), lambda n: BLOCKS / 2 + 1),
        (lambda n: n * (BLOCKS + 1), lambda n: BLOCKS / 2 + 1),
        strict=True,
    ):
        assert "error" not in found, found["trace"]
        counts, micro_batches = found["counts"], found["batches"]
        assert micro_batches > 1
        assert counts["c10d::_allgather_base_"] == gathers(micro_batches)
        assert counts["c10d::_reduce_scatter_base_"] == scatters(micro_batches)


@pytest.mark.slow
def test_stages_hand_over_the_part_of_the_stream_that_they_have(together: Any) -> None:
    def case(**parallel: Any) -> dict[str, Any]:
        settings = {
            "parallel": {"tensor": 2, "pipeline": 2, **parallel},
            "batch_size": 8,
            "micro_batch_size": 2,
        }
        return {"what": "traffic", "objective": "sft", "family": "llama", "settings": settings}

    whole, cut = together(4, [case(sequence=False), case()])
    for found in (whole, cut):
        assert "error" not in found, found["trace"]
    assert cut["counts"]["c10d::send"] == whole["counts"]["c10d::send"] == cut["batches"]
    assert (
        0 < 2 * cut["sent"] <= whole["sent"] + whole["batches"] * 2 * 32
    )  # rows of odd lengths are filled up


@pytest.mark.slow
def test_a_cut_stream_is_gathered_once_more_a_branch_in_the_backward_pass(together: Any) -> None:
    """Which keeps its part alone; where blocks are worked out again they are gathered then, and not a third time."""

    def case(recompute: str, sequence: bool) -> dict[str, Any]:
        settings = {
            "parallel": {"tensor": 2, "sequence": sequence}, "activation_checkpointing": recompute,
            "batch_size": 4, "micro_batch_size": 2,
        }  # fmt: skip
        return {"what": "traffic", "objective": "sft", "family": "llama", "settings": settings}

    asked = [(mode, sequence) for sequence in (False, True) for mode in ("none", "selective", "full")]
    found = dict(zip(asked, together(2, [case(*each) for each in asked]), strict=True))
    for each in found.values():
        assert "error" not in each, each["trace"]

    def blocks(each: dict[str, Any], name: str, beside: int = 0) -> float:
        """Of one micro-batch and block, those ``beside`` the blocks left out."""
        return (each["counts"].get(f"_c10d_functional::{name}", 0) / each["batches"] - beside) / BLOCKS

    for mode, gathers, begun, scatters in (("none", 4, 2, 4), ("selective", 6, 0, 5), ("full", 6, 0, 5)):
        cut = found[mode, True]
        # into the first block and out of the last norm, and back again
        assert blocks(cut, "all_gather_into_tensor", 2) == gathers
        assert cut["counts"].get("c10d::_allgather_base_", 0) / cut["batches"] / BLOCKS == begun
        assert blocks(cut, "reduce_scatter_tensor") == scatters
        # the embedding's
        assert blocks(found[mode, False], "all_reduce", 1) == scatters
