"""N-gram models that a stage has made, compared like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.data.shards import TokenShards
from arriero.evaluation.evaluate import Evaluate
from arriero.evaluation.scores import Scores
from arriero.models.ngram import NGram
from arriero.stage import ModelSpec, TokensSpec, open_input
from arriero.tokenization.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def counted(tokens: Artifact, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("counted")
    shards = TokenShards.open(tokens.path, "train")
    model = NGram.fit((shards.document(i) for i in range(shards.n_documents)), 3, tokenizer.vocab_size)
    model.save(folder)
    tokenizer.save(folder)
    config = {"family": "ngram", "vocab_size": tokenizer.vocab_size, "order": 3}
    spec = ModelSpec(
        config=config, n_parameters=sum(model.parameter_counts().values()),
        weight_bytes=(folder / "ngram.safetensors").stat().st_size, format="float64",
    )  # fmt: skip
    manifest = Manifest(
        name="counted", kind="ngram", makes="model", stage_version=1, seed=0, files=list_files(folder), settings={},
        key="counted-key0", spec=spec.model_dump(mode="json"), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


def test_scored_like_the_reference_of_its_order(
    counted: Artifact, base: Artifact, tokens: Artifact, context: Any, conversations: Path, preferences: Path
) -> None:
    stage = Evaluate()
    settings = stage.Settings(
        ngram_order=3, conversations=[conversations], preferences=[preferences], holdout_share=0.5,
        bootstrap_samples=200, prompts=["Where is the llama?"], sample_tokens=3,
    )  # fmt: skip
    stage.run(settings, {"models": [counted, base], "tokens": tokens}, context)
    scores = Scores.model_validate_json((context.folder / "scores.json").read_bytes())
    for measure in scores.measures:
        found = {score.model: score for score in measure.scores}
        assert "counted" in found and np.isfinite(found["counted"].value)
        if measure.name == "bits_per_byte":
            assert found["counted"].value == pytest.approx(found["3-gram"].value, abs=1e-12)
            assert found["counted"].low < found["counted"].value < found["counted"].high
    assert any("'counted' is an n-gram" in line for line in context.lines)


def test_planned_from_its_file_and_the_measured_rate(
    counted: Artifact, tokens: Artifact, profile: Any
) -> None:
    stage = Evaluate()
    specs = {"models": [open_input(counted, ModelSpec)], "tokens": open_input(tokens, TokensSpec)}
    plan = stage.plan(stage.Settings(), specs, profile)
    assert plan.estimate.flops.value == 0 and plan.estimate.peak_memory.known
