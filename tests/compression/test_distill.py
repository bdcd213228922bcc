"""The stage ``distill``: a teacher's distributions, another width, the same tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.compression.distill import DistillSettings
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_model
from arriero.stage import ModelSpec, TokensSpec, get_stage, open_input
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts

from ..training.conftest import RunContext
from ..training.test_pretrain import gflop_device, write_tokens  # noqa: F401 - a fixture

STAGE, PRETRAIN = get_stage("distill"), get_stage("pretrain")
RUN = {
    "batch_size": 4,
    "precision": "fp32",
    "threads": 1,
    "learning_rate": 5e-3,
    "n_heads": 2,
    "n_kv_heads": 2,
}


def _model(context: Any, outcome: Any, name: str) -> Artifact:
    manifest = Manifest(
        name=name, kind="pretrain", makes="model", key=name, stage_version=1, settings={}, seed=0,
        spec=outcome.spec.model_dump(mode="json"), started="", ended="",
    )  # fmt: skip
    return Artifact(context.folder, manifest)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    texts = sample_texts(30_000)
    return write_tokens(tmp_path_factory.mktemp("tokens"), train=texts[3:], validation=texts[:3])


@pytest.fixture(scope="module")
def teacher(tokens: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    context = RunContext(tmp_path_factory.mktemp("teacher"))
    chosen = PRETRAIN.Settings.model_validate(
        {**RUN, "d_model": 48, "n_layers": 2, "context_length": 32, "duration": "30 steps"}
    )
    return _model(context, PRETRAIN.run(chosen, {"tokens": tokens}, context), "teacher")


def settings(**changes: Any) -> DistillSettings:
    values = {
        **RUN, "d_model": 24, "n_layers": 1, "context_length": 32, "duration": "20 steps", "alpha": 0.2, **changes
    }  # fmt: skip
    return DistillSettings.model_validate({k: v for k, v in values.items() if v is not None})


def test_a_student_comes_nearer_to_its_teacher(tokens: Artifact, teacher: Artifact, tmp_path: Path) -> None:
    context = RunContext(tmp_path / "run")
    inputs = {"teacher": teacher, "tokens": tokens}
    outcome = STAGE.run(settings(family="gpt2", n_kv_heads=None), inputs, context)
    before, after = (outcome.facts["heldout"][i]["divergence"] for i in (0, -1))
    assert after < before / 1.5 and outcome.facts["heldout_divergence"] == after
    student = load_model(context.folder)
    assert student.config.family == "gpt2" and student.config.d_model == 24
    assert sum(student.parameter_counts().values()) == outcome.spec.n_parameters
    assert outcome.facts["teacher_parameters"] > outcome.spec.n_parameters


def test_a_given_student_goes_on(tokens: Artifact, teacher: Artifact, tmp_path: Path) -> None:
    inputs = {"teacher": teacher, "tokens": tokens, "student": teacher}
    shape = {"d_model": None, "n_layers": None, "n_heads": None, "n_kv_heads": None}
    outcome = STAGE.run(settings(duration="1 steps", **shape), inputs, RunContext(tmp_path / "run"))
    assert outcome.facts["heldout"][0]["divergence"] == pytest.approx(0, abs=1e-5)
    with pytest.raises(ArrieroError, match="d_model is for a fresh student"):
        STAGE.run(settings(), inputs, RunContext(tmp_path / "other"))


def test_a_stopped_stage_ends_with_the_same_bytes(
    tokens: Artifact, teacher: Artifact, tmp_path: Path
) -> None:
    inputs = {"teacher": teacher, "tokens": tokens}
    whole = RunContext(tmp_path / "whole")
    STAGE.run(settings(), inputs, whole)
    with pytest.raises(Interrupted):
        STAGE.run(settings(), inputs, RunContext(tmp_path / "parted", stop_at=7))
    parted = RunContext(tmp_path / "parted")
    STAGE.run(settings(), inputs, parted)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (parted.folder / name).read_bytes()


def test_the_plan_counts_the_teacher(
    tokens: Artifact, teacher: Artifact, tmp_path: Path, gflop_device: Any  # noqa: F811
) -> None:  # fmt: skip
    specs = {"tokens": open_input(tokens, TokensSpec), "teacher": open_input(teacher, ModelSpec)}
    plan = STAGE.plan(settings(), specs, gflop_device)
    context = RunContext(tmp_path / "run")
    made = STAGE.run(settings(), {"teacher": teacher, "tokens": tokens}, context)
    assert plan.spec == made.spec
    assert plan.estimate.flops.value == pytest.approx(made.facts["flops"], rel=0.02)
    alone = STAGE.plan(settings(alpha=1.0), specs, gflop_device)
    assert alone.estimate.flops.value < 0.8 * plan.estimate.flops.value


def test_another_tokenizer_is_refused(teacher: Artifact, tmp_path: Path) -> None:
    texts = sample_texts(9_000)
    other = write_tokens(tmp_path / "other", train_bpe(texts, 310, "llama3", 2), train=texts)
    with pytest.raises(ArrieroError, match="teacher 'teacher' has another tokenizer"):
        STAGE.run(settings(), {"teacher": teacher, "tokens": other}, RunContext(tmp_path / "run"))


def test_windows_longer_than_the_teachers_context_are_refused(
    tokens: Artifact, teacher: Artifact, tmp_path: Path
) -> None:
    inputs = {"teacher": teacher, "tokens": tokens}
    with pytest.raises(ArrieroError, match="longer than the teacher's context of 32"):
        STAGE.run(settings(context_length=64), inputs, RunContext(tmp_path / "run"))


@pytest.mark.parametrize("wrong", [{"alpha": 1.5}, {"temperature": 0}, {"divergence": "both"}, {"family": "bert"}, {"depth": 2}])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
