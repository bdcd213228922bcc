"""What one process of a layout holds at most, as it was traced on fake tensors, against real processes under the tracker."""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import pytest

from arriero.planning.memory.layouts import logged_rank
from arriero.products import traced_here
from arriero.training.parallel.layout import layout_of
from arriero.training.parallel.settings import ParallelSettings

Case = dict[str, Any]


def case(parallel: Case, precision: str = "bf16", **changes: Any) -> Case:
    settings = {"parallel": parallel, **changes.pop("settings", {})}
    return {
        "what": "memory", "rows": 3, "length": 32, "batches": 4, "precision": precision, "settings": settings, **changes
    }  # fmt: skip


EVEN = {"vocab_size": 68}
CASES = {
    "tensor": case({"tensor": 2, "data": 1}),
    "fsdp": case({"data": 2}, sizes=EVEN),
    "fsdp, uneven": case({"data": 2}),
    "pipeline": case({"pipeline": 2, "data": 1, "shard": "none"}, batches=5),
    "pipeline, fp32": case({"pipeline": 2, "data": 1, "shard": "none"}, "fp32", rows=1),
    "pipeline, full": case(
        {"pipeline": 2, "data": 1, "shard": "none"}, settings={"activation_checkpointing": "full"}
    ),
    "pipeline, norms after": case({"pipeline": 2, "data": 1, "shard": "none"}, family="gpt1"),
    "pipeline, gpipe": case({"pipeline": 2, "data": 1, "shard": "none", "schedule": "gpipe"}),
}
FOUR = {
    "fsdp x tensor": case({"tensor": 2, "data": 2}, sizes=EVEN),
    "fsdp x tensor, uneven": case({"tensor": 2, "data": 2}),
    "tensor x pipeline": case({"tensor": 2, "pipeline": 2, "data": 1, "shard": "none"}),
    "tensor x pipeline, stream whole": case(
        {"tensor": 2, "pipeline": 2, "data": 1, "shard": "none", "sequence": False}
    ),
    "tensor x pipeline, norms after": case(
        {"tensor": 2, "pipeline": 2, "data": 1, "shard": "none"}, family="gpt1"
    ),
    "pipeline of four": case({"pipeline": 4, "data": 1, "shard": "none"}, batches=6),
    "fsdp x pipeline": case({"pipeline": 2, "data": 2}, sizes=EVEN),
    "fsdp x pipeline, uneven": case({"pipeline": 2, "data": 2}),
}


@pytest.fixture(scope="module")
def found(together: Any) -> Any:
    kept: dict[int, dict[str, Any]] = {}

    def of(size: int, name: str) -> list[int]:
        if size not in kept:
            cases = CASES if size == 2 else FOUR
            kept[size] = dict(zip(cases, together(size, copy.deepcopy([*cases.values()])), strict=True))
        result = kept[size][name]
        assert "error" not in result, result["trace"]
        peaks: list[int] = result["peaks"]
        return peaks

    return of


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("size", "name"), [*((2, name) for name in CASES), *((4, name) for name in FOUR)], ids=lambda value: str(value)
)  # fmt: skip
def test_every_process_holds_what_its_trace_says(
    found: Any, worker: ModuleType, size: int, name: str
) -> None:
    given = (CASES if size == 2 else FOUR)[name]
    work = worker.work_of(given)
    layout = layout_of(ParallelSettings(**given["settings"]["parallel"]), size)
    shapes = worker.shapes_of(given)
    with traced_here():
        traced = [
            logged_rank(work, work.config, shapes, layout, rank).trace.peak_bytes for rank in range(size)
        ]
    # but for the numbers of the optimizer's steps and of the processes
    assert traced == pytest.approx(found(size, name), rel=5e-4)
