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
