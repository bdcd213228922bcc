"""The closed form of a pipeline's stages against the trace of every one of them; and that all who are asked say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from arriero.artifacts.commit import write_json_atomic
from arriero.cost.cut import Cut
from arriero.cost.memory import device_memory
from arriero.models.decoder_config import DecoderConfig
from arriero.models.hf_config import config_to_hf
from arriero.planning.counts.objectives import planned_shape
from arriero.planning.counts.workload import workload_of
from arriero.planning.memory.kept import KeptProfiles
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.profiles import traced_work
from arriero.training.parallel.layout import layout_of
from arriero.training.parallel.settings import ParallelSettings

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"tie_embeddings": True},
    "alibi": {"positions": "alibi"},
    "gpt2": {
        "family": "gpt2", "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "gated": False,
        "qkv_bias": True, "out_bias": True, "feed_forward_bias": True,
    },
    "gpt1": {
        "family": "gpt1", "norm": "layer", "positions": "learned", "arrangement": "post", "final_norm": False,
        "gated": False, "activation": "gelu_tanh", "qkv_bias": True,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRIERO_HOME", str(tmp_path))


def model(family: str = "llama", **changes: Any) -> DecoderConfig:
    sizes = {
        "vocab_size": 640, "d_model": 64, "n_layers": 4, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "d_ff": 96,
        "context_length": 32, **FAMILIES[family],
    }  # fmt: skip
    return DecoderConfig.model_validate({**sizes, **changes})


def compared(
    config: DecoderConfig, pipeline: int, *, tensor: int = 1, rows: int, batches: int, mode: Any = "none", **how: Any
) -> tuple[list[float], list[float]]:  # fmt: skip
    """(closed form, trace) of the first process of every stage."""
    chosen = ParallelSettings(pipeline=pipeline, tensor=tensor, data=1, shard="none")
    layout = layout_of(chosen, chosen.model_ranks)
    workload = workload_of(config, context=config.context_length, modes=(mode,), **how)
    kept = workload.memory
    assert isinstance(kept, KeptProfiles)
    subject = kept.subject
    masked = subject.document_mask and subject.objective == "causal"
    one = planned_shape(subject.objective, 1, subject.context, subject.scored, None, masked)
    shapes = [replace(one, rows=rows, scored=rows * one.scored)] * batches
    work = traced_work(kept.config, subject, mode)
    cut = Cut(tensor=tensor, pipeline=pipeline, sequence=layout.sequence)
    closed, traced = [], []
    for stage in range(pipeline):
        number = -1 if stage == pipeline - 1 else stage
        found = device_memory(
            workload, cut, micro_batch=rows, recompute=mode, accumulation=batches, stage=number
        )  # fmt: skip
        closed.append(float(found.allocated))
        traced.append(
            float(logged_rank(work, kept.config, shapes, layout, stage * tensor).log.at_peak().sum())
        )  # fmt: skip
    worst = device_memory(workload, cut, micro_batch=rows, recompute=mode, accumulation=batches)
    assert float(worst.allocated) == max(closed)
    return closed, traced


@pytest.mark.parametrize(
    ("config", "pipeline", "how"),
    [
        (model(), 2, {"rows": 3, "batches": 5, "dtype": "bf16"}),
        (model("gpt2", n_kv_heads=4), 4, {"rows": 1, "batches": 4, "mode": "full"}),
        pytest.param(
            model("gpt1", n_kv_heads=4, n_layers=6), 3, {"rows": 2, "batches": 9, "dtype": "bf16"}, marks=pytest.mark.slow
        ),
        pytest.param(model(n_layers=6), 3, {"tensor": 2, "rows": 1, "batches": 4, "dtype": "bf16"}, marks=pytest.mark.slow),
        pytest.param(
            model("tied"), 2, {"tensor": 2, "rows": 5, "batches": 2, "mode": "selective"}, marks=pytest.mark.slow
        ),
    ],
    ids=["llama", "gpt2 over four", "norms after", "tensor, one sequence", "tensor, several"],
)  # fmt: skip
def test_every_stage_of_a_pipeline(config: DecoderConfig, pipeline: int, how: Any) -> None:
    closed, traced = compared(config, pipeline, **how)
    assert closed == pytest.approx(traced, rel=0.002)


@st.composite
def cases(draw: st.DrawFn) -> tuple[DecoderConfig, int, dict[str, Any]]:
    pipeline, tensor = draw(st.sampled_from([2, 3, 4])), draw(st.sampled_from([1, 1, 2]))
    kv = 2 * draw(st.integers(1, 2))
    config = model(
        draw(st.sampled_from(sorted(FAMILIES))), vocab_size=draw(st.sampled_from([130, 1001, 5003])),
        n_heads=kv * draw(st.sampled_from([1, 2])), n_kv_heads=kv, head_dim=draw(st.sampled_from([4, 8, 16])),
        d_model=draw(st.sampled_from([32, 48, 120])), d_ff=tensor * draw(st.sampled_from([24, 72])),
        n_layers=pipeline * draw(st.integers(1, 3)), context_length=tensor * draw(st.sampled_from([8, 16, 48])),
    )  # fmt: skip
    how = {
        "tensor": tensor, "rows": draw(st.integers(1, 7)), "batches": pipeline + draw(st.sampled_from([0, 0, 1, 5])),
        "mode": draw(st.sampled_from(["none", "selective", "full"])),
        "dtype": draw(st.sampled_from(["fp32", "bf16"])), "objective": draw(st.sampled_from(["causal", "sft"])),
    }  # fmt: skip
    return config, pipeline, how


_NO_SHRINKING = (Phase.explicit, Phase.generate)  # an example takes half a minute


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(
    max_examples=20, deadline=None, derandomize=True, phases=_NO_SHRINKING, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(cases())
def test_any_stage_is_within_one_percent(case: Any) -> None:
    config, pipeline, how = case
    closed, traced = compared(config, pipeline, **how)
    assert closed == pytest.approx(traced, rel=0.01)


@pytest.mark.long
def test_estimate_goal_and_trace_say_the_same(tmp_path: Path) -> None:
    from arriero.planning.estimate.outcome import case_of, outcome_of
    from arriero.planning.estimate.question import Question
    from arriero.planning.goal.answer import answer_with, offers_for, tariffs_of
    from arriero.planning.goal.export import plan_json
    from arriero.planning.goal.offers import choose_devices
    from arriero.planning.goal.question import GoalQuestion
    from arriero.planning.goal.variants import make_variant

    config, batch = model(vocab_size=1000, n_layers=2), 8
    question = GoalQuestion(
        "cheapest", "toy", config, tokens=1e8, hardware=("h100-sxm",), context=32, batch_tokens=32 * batch,
        dtypes=("bf16",), counts=(4,),
    )  # fmt: skip
    variants, tariffs = [make_variant(config, 32, "full", "bf16", "adamw", "toy")], tariffs_of(question)
    offers = offers_for(question, choose_devices(question.hardware), variants, tariffs)
    goal = answer_with(question, offers, variants, tariffs)
    plans = goal.search.plans
    [row] = np.flatnonzero(
        (plans.tensor == 2) & (plans.pipeline == 2) & (plans.micro_batch == 2) & (plans.recompute == 0)
    )
    asked = Question(
        str(_saved(config, tmp_path)), tokens=1e8, hardware="h100-sxm", count=4, parallel="tensor 2 pipeline 2", zero=0,
        micro_batch=2, batch_tokens=32 * batch, recompute="none", context=32, precision="bf16",
    )  # fmt: skip
    estimate = outcome_of(case_of(asked)).fit
    # not the chosen one, so it was only sifted: by what the layout leaves of one process's trace
    assert plan_json(goal, row)["memory"]["high"] == pytest.approx(estimate.total.high, rel=0.01)
    _, traced = compared(config, 2, tensor=2, rows=2, batches=4, dtype="bf16")
    allocated = sum(kind.value for name, kind in estimate.kinds.items() if name not in ("runtime", "margin"))
    assert allocated == pytest.approx(max(traced), rel=0.01)


def _saved(config: DecoderConfig, folder: Path) -> Path:
    write_json_atomic(folder / "config.json", config_to_hf(config, "float32", {}))
    return folder / "config.json"
