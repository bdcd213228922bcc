from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.cut import Cut
from arriero.cost.memory import MemoryByKind, MemoryProfile, Moment, device_memory, serving_memory
from arriero.cost.workload import Dimensions, Parameters, Work, Workload
from arriero.errors import ArrieroError

LAYERS, BLOCK, REST = 4, 1000, 600
"""Blocks, their parameters, and those of the rest, of which half are looked up."""


def moment(
    where: Any, kept: int, done: int, *, head: float = 0.0, logits: float = 0.0, **limits: float
) -> Moment:
    """Weights and optimizer always; activations of ``kept`` blocks, 100 bytes a sequence; gradients of ``done``."""
    states = 4.0 * (LAYERS * BLOCK + REST)
    gradients = 4.0 * done * BLOCK + (4.0 * REST if done == LAYERS else head)
    return Moment(
        where, (1.0, 2.0),
        {"weights": (states,) * 2, "optimizer": (2 * states,) * 2, "gradients": (gradients,) * 2,
         "inner": (100.0 * kept + 7, 200.0 * kept + 14), "stream": (50.0, 100.0), "logits": (logits, 2 * logits)},
        {"weights": (4.0 * BLOCK, 0.0), "optimizer": (8.0 * BLOCK, 0.0), "gradients": (4.0 * BLOCK * (done > 0), 0.0),
         "inner": (0.0, 100.0 * (kept > 0))},
        **limits,
    )  # fmt: skip


PROFILE = MemoryProfile(
    (
        moment("head", LAYERS, 0, head=4.0 * REST / 2, logits=5000.0),
        moment("backward", LAYERS, 0, head=4.0 * REST / 2),
        moment("backward", 0, LAYERS),
        moment("update", 0, LAYERS),
    ),
    (moment("head", LAYERS, LAYERS, logits=5000.0), moment("backward", LAYERS, LAYERS)),
)


def workload(**changes: Any) -> Workload:
    parameters = Parameters(
        BLOCK, REST, REST // 2, LAYERS * BLOCK + REST, LAYERS * BLOCK + REST, 4.0 * (LAYERS * BLOCK + REST)
    )
    values: dict[str, Any] = {
        "name": "toy", "context": 16, "scored": 16, "dimensions": Dimensions(8, LAYERS, 2, 2, 4, 32, 50),
        "parameters": parameters, "dtype": "fp32", "forward_block": Work(), "forward_rest": Work(),
        "backward_block": Work(), "backward_rest": Work(), "memory": {"none": PROFILE}, "kv_token": 64.0,
    }  # fmt: skip
    return Workload(**{**values, **changes})


def memory(cut: Cut = Cut(), **settings: Any) -> MemoryByKind:  # noqa: B008 - frozen
    return device_memory(workload(), cut, **{"micro_batch": 3, "recompute": "none", **settings})


def test_gradients_are_not_there_at_the_forward_peak() -> None:
    many = memory(micro_batch=100)
    assert many.gradients == 4 * REST / 2
    assert many.logits == 500_000
    assert many.activations == 100 * (100 * LAYERS + 7 + 50)
    one = memory(micro_batch=1)
    assert one.gradients == 4 * (LAYERS * BLOCK + REST)
    assert one.logits == 0


def test_later_micro_batches_find_gradients_there() -> None:
    found = memory(micro_batch=100, accumulation=2)
    assert found.gradients == 4 * (LAYERS * BLOCK + REST)
    assert found.logits == 500_000
    assert memory(micro_batch=100, accumulation=5).total == found.total


def test_a_moment_counts_within_its_limits_alone() -> None:
    few = MemoryProfile((moment("head", LAYERS, 0, logits=1e6, most=4.0), moment("update", 0, LAYERS)), ())
    found = device_memory(
        workload(memory={"none": few}), Cut(), micro_batch=np.array([4.0, 4.5]), recompute="none"
    )
    assert found.logits.tolist() == [4e6, 0.0]


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8), st.booleans())
def test_a_higher_stage_never_needs_more_state(
    data: int, rows: int, accumulation: int, sequence: bool
) -> None:
    found = [
        memory(Cut(data=data, zero=zero, sequence=sequence), micro_batch=rows, accumulation=accumulation)
        for zero in range(4)
    ]
    for lower, higher in pairwise(found):
        assert higher.states <= lower.states
        assert data > 1 or higher.total == lower.total


@given(st.integers(1, 64), st.integers(0, 3), st.integers(1, 4), st.booleans(), st.sampled_from([1, 2, 4]))
def test_more_tensor_or_pipeline_processes_never_need_more(
    rows: int, zero: int, data: int, sequence: bool, pipeline: int
) -> None:
    found = [
        memory(
            Cut(data=data, tensor=tensor, zero=zero, sequence=sequence, pipeline=pipeline), micro_batch=rows
        ).total
        for tensor in (1, 2, 4, 8)
    ]
    assert found == sorted(found, reverse=True)


def test_zero_three_holds_a_share_and_gathers_blocks() -> None:
    found = memory(Cut(data=8, zero=3), micro_batch=100)
    assert found.weights == 4 * (LAYERS * BLOCK + REST) / 8
    assert found.optimizer == 8 * (LAYERS * BLOCK + REST) / 8
    # the rest and one block are gathered; the head's gradient waits whole
    assert found.unsharded == 4 * REST + 4 * BLOCK + 4 * REST / 2


def test_the_first_stage_of_a_pipeline_keeps_most_micro_batches() -> None:
    cut = Cut(pipeline=4)
    first, last = (memory(cut, micro_batch=10, accumulation=8, stage=stage) for stage in (0, -1))
    assert first.logits == 0 and last.logits > 0
    assert first.weights == 4 * (BLOCK + REST / 2)
    boundary = 8 * 10 * 4 * 8 * 16
    assert first.activations == pytest.approx(10 * (100 + 7 + 50) + 3 * 10 * 100 + boundary)
    assert memory(cut, micro_batch=10, accumulation=8).total == max(first.total, last.total)


@pytest.mark.parametrize(("stage", "neighbours", "flight"), [(0, 1, 2), (-1, 2, 1)])
def test_stages_hand_over_the_stream_as_they_have_it(stage: int, neighbours: int, flight: int) -> None:
    rows, accumulation, tensor = 100, 8, 4
    # a float32 stream of 16 tokens of 8 features, of every row and micro-batch
    buffers = neighbours * accumulation * rows * 4 * 8 * 16
    waiting = rows * 100 * (LAYERS / 2) * flight / tensor
    for sequence, parts in ((False, 1), (True, tensor)):
        cut = Cut(tensor=tensor, pipeline=2, sequence=sequence)
        found = memory(cut, micro_batch=rows, accumulation=accumulation, stage=stage)
        assert found.activations == waiting + rows * 7 / tensor + (rows * 50 + buffers) / parts


@given(st.data())
def test_a_hundred_plans_at_once_are_a_hundred_plans(data: st.DataObject) -> None:
    size = st.integers(1, 5)
    plans = data.draw(
        st.lists(st.tuples(size, size, size, st.integers(0, 3), st.booleans(), size), min_size=1, max_size=6)
    )
    rows, parts, copies, zero, sequence, accumulation = (
        np.array(column) for column in zip(*plans, strict=True)
    )
    together = memory(
        Cut(data=copies, tensor=parts, zero=zero, sequence=sequence),
        micro_batch=rows,
        accumulation=accumulation,
    )
    for n in range(len(plans)):
        cut = Cut(data=int(copies[n]), tensor=int(parts[n]), zero=int(zero[n]), sequence=bool(sequence[n]))
        alone = memory(cut, micro_batch=int(rows[n]), accumulation=int(accumulation[n]))
        assert together.at(n).total == pytest.approx(alone.total)
        assert together.at(n).high == pytest.approx(alone.high)


def test_modes_may_differ_by_plan() -> None:
    both = workload(memory={"none": PROFILE, "full": MemoryProfile((moment("update", 0, LAYERS),), ())})
    found = device_memory(both, Cut(), micro_batch=100, recompute=np.array(["none", "full"]))
    assert found.logits.tolist() == [500_000, 0]


def test_a_mode_that_was_not_traced_is_refused() -> None:
    with pytest.raises(ArrieroError, match="recompute full; it was with none"):
        memory(recompute="full")


def test_summary_figures_do_where_nothing_was_traced() -> None:
    plain = workload(
        memory={}, saved_block={"none": 100.0}, saved_rest=57.0, head_peak=5000.0, head_gradient=4.0 * REST / 2,
        gradient_bytes=4.0, state_bytes=8.0,
    )  # fmt: skip
    found = device_memory(plain, Cut(), micro_batch=100, recompute="none")
    assert found.basis == "fields"
    assert found.activations == 100 * (100 * LAYERS + 57)
    assert found.weights == 4 * (LAYERS * BLOCK + REST)


def test_runtime_and_margin_are_beside_what_is_allocated() -> None:
    found = memory(runtime_bytes=1000.0, margin=(0.0, 0.5))
    assert found.high == found.total + 0.5 * (found.total - 1000)


def test_serving_holds_weights_and_keys_and_values() -> None:
    found = serving_memory(workload(), Cut(tensor=4), sequences=10, context=100)
    assert found.weights == (LAYERS * BLOCK + REST)
    assert found.kv == 64 * 100 * 10 / 2  # there are two heads to cut
