"""``pretrain`` with what follows from other settings: a depth, a duration in parameters, batches and rows that grow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.training.test_pretrain import device, write_tokens

from arriero.artifacts import Artifact
from arriero.errors import Interrupted
from arriero.models.checkpoint import load_model
from arriero.stage import TokensSpec, get_stage
from arriero.tokenization.sample_text import sample_texts
from arriero.training.pretrain import PretrainSettings

STAGE = get_stage("pretrain")
SHAPE = {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "context_length": 32, "threads": 1}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    texts = sample_texts(40_000)
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=texts[3:], validation=texts[:3])


@pytest.fixture(autouse=True)
def a_gflop_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.training.traced.seconds", lambda trace, device: trace.flops / 1e9)


def settings(**changes: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({"precision": "fp32", "threads": 1, "eval_samples": 8, **changes})


def planned(chosen: PretrainSettings, tokens: Artifact) -> Any:
    return STAGE.plan(
        chosen,
        {"tokens": TokensSpec.model_validate(tokens.manifest.spec)},
        device(**{"pretrain.checkpoint_bytes": 1e9}),
    )


def test_one_dial_makes_a_model_and_the_plan_says_what_it_chose(tokens: Artifact, make_context: Any) -> None:
    chosen = settings(depth=1, context_length=32, duration="4096 tokens")
    plan, context = planned(chosen, tokens), make_context()
    outcome = STAGE.run(chosen, {"tokens": tokens}, context)
    assert plan.notes[1].startswith("depth 1: 1 blocks of width 64, 1 heads of 64; batch ")
    batch = int(plan.notes[1].split("batch ")[1].split(",")[0])
    assert batch != 16 and batch & (batch - 1) == 0
    assert outcome.facts["steps"] == math.ceil(4096 / (32 * batch))
    assert outcome.spec.n_parameters == plan.spec.n_parameters
    assert load_model(context.folder).config.d_model == 64
    assert outcome.facts["flops"] == pytest.approx(plan.estimate.flops.value, rel=0.02)


def test_tokens_for_each_parameter(tokens: Artifact, make_context: Any) -> None:
    chosen = settings(**SHAPE, duration="0.5 x parameters", batch_size=8)
    plan = planned(chosen, tokens)
    facts = STAGE.run(chosen, {"tokens": tokens}, make_context()).facts
    wanted = 0.5 * plan.spec.n_parameters
    assert wanted <= facts["tokens"] < wanted + 8 * 32
    assert facts["steps"] == facts["tokens"] / (8 * 32) and f"{facts['steps']:,} steps" in plan.notes[0]


@pytest.mark.parametrize(
    "growth",
    [
        {"batch_warmup": "50 %", "batch_size_start": 1},
        {"length_warmup": 0.5, "length_start": 8},
        {"batch_warmup": "2e3 tokens", "length_warmup": 0.3, "optimizer": "muon", "ema_decay": 0.9, "schedule": "wsd"},
    ],
)  # fmt: skip
def test_what_grows_is_planned_run_and_resumed(
    growth: dict[str, Any], tokens: Artifact, make_context: Any, tmp_path: Path
) -> None:
    chosen = settings(**SHAPE, duration="24 steps", batch_size=8, learning_rate=1e-2, **growth)
    plan, whole = planned(chosen, tokens), make_context()
    outcome = STAGE.run(chosen, {"tokens": tokens}, whole)
    assert outcome.facts["steps"] == 24
    assert outcome.facts["flops"] == pytest.approx(plan.estimate.flops.value, rel=0.02)
    with pytest.raises(Interrupted):
        STAGE.run(chosen, {"tokens": tokens}, make_context(root=tmp_path / "a", stop_at=7))
    resumed = make_context(root=tmp_path / "a")
    STAGE.run(chosen, {"tokens": tokens}, resumed)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length_start": 64}, "give length_warmup too"),
        (
            {"length_warmup": 0.2, "length_start": 100},
            "length_start 100 should be the window of 256 tokens halved",
        ),
        ({"length_warmup": 0.2, "context_length": 12}, "halved once or more"),
        ({"length_warmup": 0.2, "family": "lstm"}, "not for streams"),
        ({"length_warmup": 0.2, "family": "bert"}, "whole sentences"),
    ],
)
def test_rows_that_cannot_grow_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainSettings.model_validate(changes)
