from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.data.pairs import read_pairs
from arriero.errors import ArrieroError
from arriero.inference.beam import BeamSettings, beam_generate
from arriero.models.checkpoint import load_model
from arriero.models.seq2seq import Seq2Seq
from arriero.models.seq2seq_config import Seq2SeqConfig
from arriero.stage import ModelSpec, TokenizerSpec, get_stage
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training.seq2seq import Seq2SeqSettings

STAGE = get_stage("seq2seq")


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tokenizer whose tokens are single bytes."""
    from arriero.tokenization.bpe import MIN_VOCAB, train_bpe

    tokenizer = train_bpe(["ab"], MIN_VOCAB, "llama3", 2)
    folder = tmp_path_factory.mktemp("letters")
    tokenizer.save(folder)
    spec = TokenizerSpec(vocab_size=tokenizer.vocab_size, bytes_per_token=1.0)
    manifest = Manifest(
        name="letters", kind="tokenizer", makes="tokenizer", key="k", stage_version=1, settings={}, seed=0,
        spec=spec.model_dump(), started="", ended="",
    )  # fmt: skip
    return Artifact(folder, manifest)


def write_reversals(path: Path, count: int, shortest: int, longest: int, seed: int = 0) -> Path:
    draw = random.Random(seed)
    lines = []
    for _ in range(count):
        text = "".join(draw.choices("abcdefgh", k=draw.randint(shortest, longest)))
        lines.append(json.dumps({"source": text, "target": text[::-1]}) + "\n")
    path.write_text("".join(lines))
    return path


def settings_for(data: Path, **changes: Any) -> Seq2SeqSettings:
    values = {
        "data": [data], "d_model": 32, "n_layers": 1, "n_heads": 2, "context_length": 32, "duration": "12 steps",
        "batch_size": 8, "precision": "fp32", "threads": 1, "holdout_share": 0.2, "log_every": 4,
    }  # fmt: skip
    return Seq2SeqSettings.model_validate({**values, **changes})


@pytest.mark.parametrize("family", ["transformer", "bart", "t5"])
def test_a_run_leaves_a_model_and_true_facts(
    family: str, letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_reversals(tmp_path / "data.jsonl", 60, 3, 40)
    settings, context = settings_for(data, family=family), make_context()
    outcome = STAGE.run(settings, {"tokenizer": letters}, context)
    model, tokenizer = load_model(context.folder), Tokenizer.load(context.folder)
    assert isinstance(model, Seq2Seq)
    assert ModelSpec.model_validate(outcome.spec.model_dump()).n_parameters == sum(
        model.parameter_counts().values()
    )
    assert model.config == Seq2SeqConfig.parse(outcome.spec.config, "the spec")
    ids = (model.config.start_id, model.config.eos_id, model.config.pad_id)
    assert ids == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id)
    assert outcome.facts["data"]["too_long"] > 0
    assert outcome.facts["parameters"] == model.parameter_counts()
    assert context.flops == pytest.approx(outcome.facts["flops"])
    assert "longer than context_length left out" in context.said[0]
    assert outcome.facts["heldout"][-1]["loss"] < outcome.facts["heldout"][0]["loss"]
    assert [record.name for record in outcome.licenses] == ["unknown"]


def test_the_plan_is_near_the_run(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    from types import SimpleNamespace

    settings = settings_for(write_reversals(tmp_path / "data.jsonl", 60, 3, 40))
    device: Any = SimpleNamespace(process_bytes=3e8, bf16_pays=False, rate=lambda name: None)
    spec = TokenizerSpec.model_validate(letters.manifest.spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arriero.training.traced.seconds", lambda trace, device: trace.flops / 1e9)
        made = STAGE.plan(settings, {"tokenizer": spec}, device)
    outcome = STAGE.run(settings, {"tokenizer": letters}, make_context())
    changed = {"pad_id", "eos_id", "start_id"}  # a spec does not know the tokenizer's
    assert {k: v for k, v in made.spec.config.items() if k not in changed} == {
        k: v for k, v in outcome.spec.config.items() if k not in changed
    }
    assert made.spec.n_parameters == outcome.spec.n_parameters
    assert made.spec.weight_bytes == pytest.approx(outcome.spec.weight_bytes, abs=8)
    assert made.estimate.flops.value == pytest.approx(outcome.facts["flops"], rel=0.1)


def test_a_stopped_run_goes_on_to_the_same_weights(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    from arriero.errors import Interrupted

    settings = settings_for(write_reversals(tmp_path / "data.jsonl", 60, 3, 20))
    whole, stopped = make_context(), make_context(root=tmp_path / "stopped", stop_at=5)
    STAGE.run(settings, {"tokenizer": letters}, whole)
    with pytest.raises(Interrupted):
        STAGE.run(settings, {"tokenizer": letters}, stopped)
    again = make_context(root=tmp_path / "stopped")
    STAGE.run(settings, {"tokenizer": letters}, again)
    name = "model.safetensors"
    assert (whole.folder / name).read_bytes() == (again.folder / name).read_bytes()


def test_what_cannot_be_trained_is_said(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    long = write_reversals(tmp_path / "long.jsonl", 5, 50, 60)
    for changes, words in (
        ({"holdout_share": 0.0}, "no pair fits into a context_length of 32"),
        ({"holdout_share": 0.999999}, "pairs are held out"),
    ):
        with pytest.raises(ArrieroError, match=words):
            STAGE.run(settings_for(long, **changes), {"tokenizer": letters}, make_context())
    for changes, words in (
        ({"n_heads": 5}, "not a multiple"),
        ({"source_field": "target"}, "are both 'target'"),
    ):
        with pytest.raises(ValueError, match=words):
            settings_for(long, **changes)


@pytest.mark.slow
def test_strings_are_learnt_backwards(
    letters: Artifact, make_context: Callable[..., Any], tmp_path: Path
) -> None:
    """Proof (a) of the original Transformer: unseen strings are reversed, found by beam search."""
    data = write_reversals(tmp_path / "data.jsonl", 20_000, 4, 16)
    settings = settings_for(
        data, d_model=64, n_heads=4, n_layers=2, batch_size=64, duration="700 steps", learning_rate=2e-3,
        holdout_share=0.02, dropout=0.0, context_length=20, warmup="10 %", schedule="cosine", eval_samples=64,
    )  # fmt: skip
    context = make_context()
    STAGE.run(settings, {"tokenizer": letters}, context)
    model, tokenizer = load_model(context.folder), Tokenizer.load(context.folder)
    unseen = read_pairs(write_reversals(tmp_path / "unseen.jsonl", 300, 4, 16, seed=1), "source", "target")
    seen = {pair.source for pair in read_pairs(data, "source", "target")}
    unseen = [pair for pair in unseen if pair.source not in seen]
    assert len(unseen) > 200
    sources = [tokenizer.encode(pair.source, eos=True) for pair in unseen]
    for beams in (1, 4):
        found = beam_generate(model, sources, BeamSettings(beams=beams, max_tokens=20))
        right = sum(
            tokenizer.decode(one[0].ids) == pair.target for one, pair in zip(found, unseen, strict=True)
        )
        assert right / len(unseen) >= 0.99
