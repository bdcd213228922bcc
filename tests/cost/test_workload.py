"""Sums over a workload's parts."""

from __future__ import annotations

import pytest

from arriero.cost.workload import Dimensions, Parameters, Work, Workload

BLOCK, REST = Work(6, 0, 2, 10), Work(1, 5, 0, 3)


def workload() -> Workload:
    return Workload(
        name="toy", context=4, scored=4, dimensions=Dimensions(8, 3, 2, 2, 4, 16, 11),
        parameters=Parameters(10, 20, 5, 50, 50, 200.0), dtype="fp32",
        forward_block=BLOCK, forward_rest=REST, backward_block=2 * BLOCK, backward_rest=2 * REST,
        recomputed_block={"full": BLOCK}, once_block=Work(1), once_rest=Work(0, 0, 0, 7),
    )  # fmt: skip


def test_arithmetic_of_work() -> None:
    assert Work(7, 5, 2, 13) == BLOCK + REST
    assert Work() == BLOCK - BLOCK
    assert 2 * BLOCK == BLOCK * 2 == Work(12, 0, 4, 20)
    assert BLOCK.flops == 8  # bytes are no FLOP


def test_the_whole_model() -> None:
    found = workload()
    assert found.forward == Work(19, 5, 6, 33)
    assert found.backward == Work(38, 10, 12, 66)
    assert found.once == Work(3, 0, 0, 7)
    assert found.recomputed("full") == 3 * BLOCK
    assert found.recomputed("none") == found.recomputed("selective") == Work()
    assert found.uncounted == ()


def test_a_workload_stays_as_it_is() -> None:
    with pytest.raises(AttributeError):
        workload().context = 5  # type: ignore[misc]
