"""The closed form of memory where layouts cut the model, against the trace of one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch.distributed as dist
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from arriero.cost.cut import Cut
from arriero.cost.memory import device_memory
from arriero.cost.memory.profile import Group
from arriero.errors import ArrieroError
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.objectives import planned_shape
from arriero.planning.counts.workload import workload_of
from arriero.planning.memory.fake_group import fake_group
from arriero.planning.memory.kept import KeptProfiles
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.profiles import traced_work
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import layout_of
from arriero.training.parallel.settings import ParallelSettings


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))


def model(**changes: Any) -> DecoderConfig:
    sizes = {
        "vocab_size": 640,
        "d_model": 64,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 16,
        "d_ff": 96,
    }
    return DecoderConfig.model_validate({**sizes, "context_length": 64, **changes})


def compared(
    config: DecoderConfig, parallel: dict[str, Any], *, rows: int = 3, batches: int = 1, stage: int = 0, **how: Any
) -> tuple[float, float]:  # fmt: skip
    """(closed form, trace) of the first process (of a pipeline's stage); the closed form must rest on a trace of such one."""
    chosen = ParallelSettings(**parallel)
    layout = layout_of(chosen, max(1, chosen.data) * chosen.model_ranks)
    mode = how.pop("mode", "none")
    workload = workload_of(config, context=config.context_length, modes=(mode,), **how)
    kept = workload.memory
    assert isinstance(kept, KeptProfiles)
    subject = kept.subject
    masked = subject.document_mask and subject.objective == "causal"
    one = planned_shape(subject.objective, 1, subject.context, subject.scored, None, masked)
    shape = replace(one, rows=rows, scored=rows * one.scored)
    rank = stage * layout.size // layout.pipeline
    traced = logged_rank(
        traced_work(kept.config, subject, mode), kept.config, [shape] * batches, layout, rank
    )
    cut = Cut(
        data=layout.dealt, tensor=layout.tensor, context=layout.context, pipeline=layout.pipeline,
        sequence=layout.sequence, zero=3 if layout.sharded else 0,
    )  # fmt: skip
    closed = device_memory(
        workload, cut, micro_batch=rows, recompute=mode, accumulation=batches,
        stage=None if layout.pipeline == 1 else -1 if stage == layout.pipeline - 1 else stage,
    )  # fmt: skip
    assert layout.size == 1 or any(found is not None for found in kept._parts.values())
    return float(closed.allocated), float(traced.log.at_peak().sum())


@pytest.mark.parametrize(
    ("config", "parallel", "how"),
    [
        (model(), {"tensor": 2, "data": 1}, {"rows": 5, "batches": 2}),
        (model(n_layers=1, vocab_size=130), {"data": 4}, {"rows": 2, "dtype": "bf16", "mode": "full"}),
        (model(), {"data": 3, "shard": "none"}, {"rows": 1}),
        pytest.param(
            model(n_heads=8, n_kv_heads=8), {"tensor": 8, "data": 1, "sequence": False}, {"dtype": "bf16"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            model(n_heads=8, n_kv_heads=4, tie_embeddings=True, n_layers=5), {"tensor": 4, "data": 1},
            {"objective": "sft", "mode": "selective", "dtype": "bf16"}, marks=pytest.mark.slow,
        ),
        pytest.param(model(d_model=72), {"data": 7}, {"rows": 2, "batches": 2}, marks=pytest.mark.slow),
        pytest.param(model(), {"data": 3}, {"optimizer": "adafactor"}, marks=pytest.mark.slow),
        pytest.param(model(), {"tensor": 2, "data": 2}, {"mode": "full"}, marks=pytest.mark.slow),
        pytest.param(model(), {"data": 1, "context": 2, "shard": "none"}, {}, marks=pytest.mark.slow),
        pytest.param(
            model(n_layers=6), {"data": 2, "pipeline": 3}, {"batches": 3, "rows": 1, "mode": "selective", "dtype": "bf16"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            model(n_layers=6), {"data": 2, "context": 2, "pipeline": 3}, {"batches": 5, "rows": 2, "stage": 2},
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "tensor", "fsdp", "copies", "tensor, whole stream", "tensor, selective", "fsdp, uneven", "fsdp, adafactor",
        "fsdp x tensor", "context", "fsdp x pipeline", "fsdp x context x pipeline",
    ],
)  # fmt: skip
def test_one_process_of_a_group(config: DecoderConfig, parallel: Any, how: Any) -> None:
    closed, traced = compared(config, parallel, **how)
    assert closed == pytest.approx(traced, rel=0.005)


@st.composite
def cases(draw: st.DrawFn) -> tuple[DecoderConfig, dict[str, Any], dict[str, Any]]:
    tensor, context, pipeline = (
        draw(st.sampled_from(sizes)) for sizes in ([1, 2, 4], [1, 1, 2], [1, 1, 2, 3])
    )
    data, shard = draw(st.sampled_from([1, 2, 3, 8])), draw(st.sampled_from(["full", "none"]))
    kv, group = tensor * draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 3]))
    config = model(
        vocab_size=draw(st.sampled_from([130, 1001, 5003])), n_heads=kv * group, n_kv_heads=kv,
        head_dim=draw(st.sampled_from([4, 8])), d_model=draw(st.sampled_from([32, 48, 120])),
        d_ff=tensor * draw(st.sampled_from([9, 24])), n_layers=pipeline * draw(st.integers(1, 4)),
        context_length=tensor * context * draw(st.sampled_from([4, 6, 16])), tie_embeddings=draw(st.booleans()),
    )  # fmt: skip
    parallel = {
        "tensor": tensor, "data": data, "context": context, "pipeline": pipeline,
        "sequence": draw(st.booleans()), "shard": shard,
    }  # fmt: skip
    how = {
        "dtype": draw(st.sampled_from(["fp32", "bf16"])), "objective": draw(st.sampled_from(["causal", "sft"])),
        "mode": draw(st.sampled_from(["none", "selective", "full"])), "rows": draw(st.integers(1, 9)),
        "batches": draw(st.integers(pipeline, pipeline + 3)), "stage": draw(st.integers(0, pipeline - 1)),
    }  # fmt: skip
    return config, parallel, how


_NO_SHRINKING = (Phase.explicit, Phase.generate)  # an example takes half a minute


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(
    max_examples=25, deadline=None, derandomize=True, phases=_NO_SHRINKING, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(cases())
def test_any_layout_is_within_one_percent(case: Any) -> None:
    config, parallel, how = case
    closed, traced = compared(config, parallel, **how)
    assert closed == pytest.approx(traced, rel=0.01)


def test_a_model_that_cannot_be_cut_so_goes_by_what_is_left_of_the_whole() -> None:
    kept = workload_of(model(n_heads=6, n_kv_heads=3), context=64).memory
    assert isinstance(kept, KeptProfiles)
    assert kept.cut("none", Group(2, True)) is None
    adapters = workload_of(model(), context=64, lora_rank=4)
    assert isinstance(adapters.memory, KeptProfiles)
    assert adapters.memory.cut("none", Group(2, True)) is None
    halves = device_memory(adapters, Cut(tensor=2), micro_batch=1, recompute="none")
    whole = device_memory(adapters, Cut(), micro_batch=1, recompute="none")
    rotary = 2 * 4 * 64 * 16  # tables that every process has whole
    assert 2 * halves.weights - whole.weights == pytest.approx(rotary)


def test_traces_of_several_groups_do_not_meet() -> None:
    """DTensor remembers meshes by their ranks; the groups behind them are gone after each trace."""
    work = traced_work(*_of(model()), "none")
    found = []
    for parallel in (
        {"tensor": 2, "data": 2},
        {"tensor": 2, "data": 1},
        {"tensor": 2, "data": 1, "pipeline": 2, "shard": "none"},
    ):
        chosen = ParallelSettings(**parallel)  # type: ignore[arg-type]
        layout = layout_of(chosen, chosen.data * chosen.model_ranks)
        for rank in (layout.size - 1, 0):
            found.append(
                logged_rank(work, work.config, [Shape(1, 64, 64)] * 2, layout, rank).log.at_peak().sum()
            )
    assert all(bytes > 0 for bytes in found)
    assert not dist.is_initialized()


def test_the_first_trace_of_a_group_is_the_second() -> None:
    """What DTensor works out only once, on shapes of the whole, is no memory."""
    work = traced_work(*_of(model()), "none")
    layout = layout_of(ParallelSettings(tensor=2, data=1), 2)
    first, second = (
        logged_rank(work, work.config, [Shape(2, 64, 128)], layout).trace.peak_bytes for _ in range(2)
    )
    assert first == second


def test_nothing_is_traced_inside_a_group() -> None:
    kept = workload_of(model(), context=64).memory
    assert isinstance(kept, KeptProfiles)
    with fake_group(2, 0):
        assert kept.cut("none", Group(2, True)) is None
        with pytest.raises(ArrieroError, match="in one already"), fake_group(2, 0):
            pass


def _of(config: DecoderConfig) -> tuple[Any, Any]:
    kept = workload_of(config, context=config.context_length).memory
    assert isinstance(kept, KeptProfiles)
    return kept.config, kept.subject
