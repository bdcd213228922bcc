from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from arriero.cost.cut import Cut
from arriero.cost.memory import MemoryByKind, device_memory
from arriero.errors import ArrieroError
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.models.encoder_config import EncoderConfig
from arriero.planning.counts.objectives import planned_objective, planned_shape, resolve_objective
from arriero.planning.counts.subject import Subject
from arriero.planning.counts.workload import workload_of
from arriero.planning.memory import traced as module
from arriero.planning.memory.fake_group import fake_group
from arriero.planning.memory.pipeline_stage import stage_order
from arriero.planning.memory.profiles import traced_work
from arriero.planning.memory.step import logged_step
from arriero.planning.memory.traced import traced_memory
from arriero.products import traced_here
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import layout_of
from arriero.training.parallel.settings import ParallelSettings
from arriero.training.settings import TrainSettings
from arriero.training.traced import Work, step_figures

LLAMA = DecoderConfig(
    vocab_size=304, d_model=64, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=96, context_length=64
)
GPT2 = DecoderConfig(
    family="gpt2", vocab_size=300, d_model=48, n_layers=3, n_heads=4, n_kv_heads=4, d_ff=96, context_length=64,
    norm="layer", positions="learned", gated=False, activation="gelu_tanh", qkv_bias=True, out_bias=True,
    feed_forward_bias=True,
)  # fmt: skip
BERT = EncoderConfig(
    family="bert", vocab_size=300, d_model=48, n_layers=3, n_heads=4, d_ff=96, context_length=64
)
ALBERT = EncoderConfig(
    family="albert", vocab_size=300, d_model=48, embedding_size=16, embedding_projection="after_norm", n_layers=6, n_groups=1, n_heads=4, d_ff=96,
    context_length=64,
)  # fmt: skip


def work_of(config: ModelConfig, objective: str, mode: Any, precision: Any = "fp32", **changes: Any) -> Work:
    config, objective = resolve_objective(config, objective)
    return Work(
        config, planned_objective(config, objective, 64),
        TrainSettings(activation_checkpointing=mode, **changes), precision,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "objective", "scored"),
    [(LLAMA, "causal", 64), (GPT2, "dpo", 32), (BERT, "masked", 16), (ALBERT, "sentence_order", 16)],
    ids=["llama-causal", "gpt2-dpo", "bert-masked", "albert-pairs"],
)
@pytest.mark.parametrize(("mode", "precision"), [("none", "bf16"), ("selective", "fp32"), ("full", "bf16")])
def test_the_fake_peak_is_the_real_one_to_the_byte(
    config: ModelConfig, objective: str, scored: int, mode: Any, precision: Any
) -> None:
    work = work_of(config, objective, mode, precision)
    shapes = [Shape(2, 64, 2 * scored), Shape(4, 48, 4 * scored if scored < 64 else 4 * 48)]
    with traced_here():
        fake = logged_step(work, work.config, shapes)
    assert logged_step(work, work.config, shapes, fake=False).trace.peak_bytes == fake.trace.peak_bytes
    assert fake.log.at_peak().sum() == fake.trace.peak_bytes
    assert (
        step_figures(work, shapes, None if work.config.n_layers < 3 else _WHOLE).peak_bytes
        == fake.trace.peak_bytes
    )


class _Whole:
    """A device of which only its being there counts: models of few blocks are then traced whole."""


_WHOLE: Any = _Whole()


@pytest.fixture(autouse=True)
def _no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.training.traced.seconds", lambda trace, device: 0.0)


def test_the_kinds_are_what_they_are_called() -> None:
    work = work_of(LLAMA, "sft", "full", ema_decay=0.9)
    found = traced_memory(work, [Shape(1, 64, 64)])
    parameters = 4 * sum(LLAMA.parameter_counts().values())
    rotary = 2 * 4 * 64 * 16
    assert found.weights == parameters + rotary
    assert found.gradients <= parameters
    steps = 4 * (LLAMA.n_layers * 9 + 2)  # one number for each parameter
    assert found.optimizer == pytest.approx(3 * parameters + steps, abs=4096)
    assert found.basis == "traced"
    wide = work_of(LLAMA.model_copy(update={"vocab_size": 8000}), "sft", "full")
    many = traced_memory(wide, [Shape(16, 64, 16 * 64)])
    parameters = 4 * sum(wide.config.parameter_counts().values())
    assert many.logits > 4 * 16 * 64 * 8000
    assert many.gradients < parameters  # of the head alone, which the loss makes


def test_a_deep_model_lies_on_the_lines_through_shallow_ones() -> None:
    work = work_of(LLAMA.model_copy(update={"n_layers": 11}), "sft", "none")
    for rows in (1, 8):
        shapes = [Shape(rows, 64, rows * 64)] * 2
        assert traced_memory(work, shapes).total == traced_memory(work, shapes, whole=True).total


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": GPT2.model_dump(include={
        "family", "norm", "positions", "gated", "activation", "qkv_bias", "out_bias", "feed_forward_bias"
    }),
    "bert": {"family": "bert"},
}  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[ModelConfig, dict[str, Any], Any, int, int]:
    """(config, arguments of workload_of, mode, micro-batch, accumulation)."""
    family, heads = draw(st.sampled_from(sorted(FAMILIES))), draw(st.sampled_from([2, 4]))
    context, width = draw(st.sampled_from([16, 48, 64, 128])), heads * draw(st.sampled_from([8, 16, 24]))
    sizes: dict[str, Any] = {
        "vocab_size": draw(st.sampled_from([120, 1000, 9000])), "d_model": width, "n_heads": heads,
        "n_layers": draw(st.integers(1, 7)), "d_ff": draw(st.sampled_from([width, 4 * width + 8])),
        "context_length": context, **FAMILIES[family],
    }  # fmt: skip
    how: dict[str, Any] = {"context": context, "dtype": draw(st.sampled_from(["fp32", "bf16"]))}
    if family == "bert":
        config: ModelConfig = EncoderConfig.model_validate(sizes)
        how["scored"] = 16 / context
    else:
        config = DecoderConfig.model_validate(sizes)
        how["objective"] = draw(st.sampled_from(["causal", "sft"]))
        how["lora_rank"] = draw(st.sampled_from([0, 0, 4]))
    how["optimizer"] = draw(st.sampled_from(["adamw", "adamw", "adafactor", "muon"]))
    mode = draw(st.sampled_from(["none", "selective", "full"]))
    return config, how, mode, draw(st.integers(1, 33)), draw(st.integers(1, 3))


def compared(case: tuple[ModelConfig, dict[str, Any], Any, int, int]) -> tuple[float, float]:
    """(closed form, trace)."""
    config, how, mode, rows, accumulation = case
    workload = workload_of(config, modes=(mode,), **how)
    profiles: Any = workload.memory
    subject: Subject = profiles.subject
    work = traced_work(profiles.config, subject, mode)
    one = planned_shape(
        subject.objective, 1, subject.context, subject.scored, None, subject.objective == "causal"
    )
    shape = replace(one, rows=rows, scored=rows * one.scored)
    traced = logged_step(work, work.config, [shape] * accumulation).trace.peak_bytes
    closed = device_memory(workload, Cut(), micro_batch=rows, recompute=mode, accumulation=accumulation)
    return float(closed.total), float(traced)


@pytest.mark.parametrize(
    "case",
    [
        (LLAMA, {"context": 64, "objective": "sft"}, "none", 5, 2),
        pytest.param(
            (
                GPT2,
                {"context": 64, "objective": "causal", "dtype": "bf16", "lora_rank": 4},
                "selective",
                3,
                1,
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param((BERT, {"context": 64, "scored": 0.25}, "full", 12, 1), marks=pytest.mark.slow),
        pytest.param((BERT, {"context": 64, "scored": 0.25}, "none", 6, 2), marks=pytest.mark.slow),
    ],
    ids=["llama", "gpt2-lora", "bert-full", "bert"],
)
def test_the_closed_form_is_the_trace(case: Any) -> None:
    closed, traced = compared(case)
    assert closed == pytest.approx(traced, rel=0.001)


_NO_SHRINKING = (Phase.explicit, Phase.generate)  # an example takes half a minute


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(
    max_examples=12, deadline=None, derandomize=True, phases=_NO_SHRINKING, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(cases())
def test_the_closed_form_is_within_one_percent_of_any_trace(case: Any) -> None:
    closed, traced = compared(case)
    assert closed == pytest.approx(traced, rel=0.01)


LAYOUTS: dict[str, dict[str, Any]] = {
    "fsdp": {"data": 4},
    "tensor": {"tensor": 2, "data": 1},
    "fsdp x tensor": {"data": 2, "tensor": 2},
    "context": {"data": 1, "context": 2},
    "pipeline": {"data": 1, "pipeline": 2, "shard": "none"},
}


def rank_memory(
    parallel: dict[str, Any], mode: str = "none", rank: int = 0, batches: int = 4
) -> MemoryByKind:
    chosen = ParallelSettings(**parallel)
    layout = layout_of(chosen, max(1, chosen.data) * chosen.model_ranks)
    work = work_of(LLAMA, "sft", mode, parallel=chosen)
    return traced_memory(work, [Shape(4, 64, 256)] * batches, layout=layout, rank=rank)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_traced_by_their_own_code(name: str) -> None:
    alone = traced_memory(work_of(LLAMA, "sft", "none"), [Shape(4, 64, 256)] * 4)
    found = rank_memory(LAYOUTS[name])
    parts = {"fsdp": 4, "fsdp x tensor": 4}.get(name, 2)
    assert found.weights == pytest.approx(
        alone.weights / parts, rel=0.2
    )  # norms, tied tables and angles are whole
    assert found.optimizer == pytest.approx(alone.optimizer / parts, rel=0.2)
    assert (found.unsharded > 0) == (name in ("fsdp", "fsdp x tensor", "context"))
    assert found.total < alone.total


@pytest.mark.parametrize(("name", "rank", "cut"), [
    ("fsdp", 0, Cut(data=4, zero=3)),
    ("pipeline", 0, Cut(pipeline=2)),
    ("pipeline", 1, Cut(pipeline=2)),
])  # fmt: skip
def test_the_closed_form_of_layouts(name: str, rank: int, cut: Cut) -> None:
    workload = workload_of(LLAMA, context=64, objective="sft", modes=("none",))
    closed = device_memory(
        workload, cut, micro_batch=4, accumulation=4, recompute="none", stage=-1 if rank else 0
    )
    assert closed.total == pytest.approx(rank_memory(LAYOUTS[name], rank=rank).total, rel=0.005)


@pytest.mark.parametrize("batches", [1, 2, 3, 8])
@pytest.mark.parametrize("stage", [0, 1, 3])
def test_1f1b_holds_no_more_than_the_stages_to_come(stage: int, batches: int) -> None:
    order = list(stage_order("1f1b", stage, 4, batches))
    held = np.cumsum([1 if forward else -1 for forward, _ in order])
    assert sorted(order) == sorted((way, n) for way in (False, True) for n in range(batches))
    assert held.max() == min(batches, 4 - stage)
    assert max(np.cumsum([1 if f else -1 for f, _ in stage_order("gpipe", stage, 4, batches)])) == batches


@pytest.mark.parametrize("rank", [0, 1])
def test_a_deep_stage_lies_on_the_lines_through_shallow_ones(rank: int) -> None:
    chosen = ParallelSettings(**LAYOUTS["pipeline"])
    deep = work_of(LLAMA.model_copy(update={"n_layers": 20}), "sft", "none", "bf16", parallel=chosen)
    found = [
        traced_memory(
            deep, [Shape(2, 64, 128)] * 3, layout=layout_of(chosen, 2), rank=rank, whole=whole
        ).total
        for whole in (False, True)
    ]
    assert found[0] == found[1]


def test_a_layout_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ArrieroError, match="cannot be cut over tensor 3"):
        rank_memory({"data": 1, "tensor": 3})
    with fake_group(2, 0), pytest.raises(ArrieroError, match="in one already"):
        rank_memory(LAYOUTS["fsdp"])
    assert not torch.distributed.is_initialized()
    assert LLAMA.n_layers <= module.WHOLE
