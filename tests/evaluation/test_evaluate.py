from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arriero.artifacts import Artifact
from arriero.artifacts.hashing import sha256_file
from arriero.artifacts.manifest import SourceRecord
from arriero.data.shards import TokenShards
from arriero.errors import ArrieroError, Interrupted
from arriero.evaluation.documents import chosen_documents
from arriero.evaluation.evaluate import Evaluate
from arriero.evaluation.scores import Samples, Scores
from arriero.models.checkpoint import load_model
from arriero.stage import ModelSpec, TokensSpec, get_stage, open_input
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.tokenizer import Tokenizer
from arriero.training import planned_rows


@pytest.fixture
def given(conversations: Path, preferences: Path) -> dict[str, Any]:
    return {
        "conversations": [conversations], "preferences": [preferences], "holdout_share": 0.5, "bootstrap_samples": 200,
        "ngram_order": 3, "prompts": ["Where is the llama?"], "sample_tokens": 5,
    }  # fmt: skip


def run(given: dict[str, Any], models: list[Artifact], tokens: Artifact, context: Any) -> Scores:
    stage = Evaluate()
    outcome = stage.run(stage.Settings(**given), {"models": models, "tokens": tokens}, context)
    scores = Scores.model_validate_json((context.folder / "scores.json").read_bytes())
    assert outcome.spec.models == [line.name for line in scores.models]
    return scores


def measure(scores: Scores, name: str) -> Any:
    return next(m for m in scores.measures if m.name == name)


def test_all_measures_of_two_models(
    given: dict[str, Any], base: Artifact, tuned: Artifact, tokens: Artifact, context: Any
) -> None:
    scores = run(given, [base, tuned], tokens, context)
    assert [line.name for line in scores.models] == ["base", "tuned", "3-gram", "unigram"]
    assert (
        scores.models[1].parent == "base"
        and scores.models[0].weight_bytes == base.manifest.spec["weight_bytes"]
    )
    bits = measure(scores, "bits_per_byte")
    by_name = {score.model: score for score in bits.scores}
    assert by_name["3-gram"].value < by_name["unigram"].value < by_name["base"].value, "weights are random"
    assert all(s.low < s.value < s.high and s.n == 12 for s in bits.scores)
    beside = {(d.model, d.to): d for d in bits.differences}
    assert beside["tuned", "base"].relation == "parent" and beside["base", "unigram"].better is False
    assert "worse than unigram" in beside["base", "unigram"].verdict
    loss = measure(scores, "answer_loss")
    assert loss.n < loss.of and [s.model for s in loss.scores] == ["base", "tuned"]
    assert loss.scores[0].value == pytest.approx(
        math.log(base.manifest.spec["config"]["vocab_size"]), abs=0.1
    )
    assert 0 <= measure(scores, "preference_accuracy").scores[0].value <= 1
    assert context.told[-1][0] <= context.told[-1][1] and context.flops > 0
    samples = Samples.model_validate_json((context.folder / "samples.json").read_bytes())
    assert [answer.model for answer in samples.prompts[0].answers] == ["base", "tuned"]
    table = (context.folder / "scores.md").read_text()
    assert "| tuned |" in table and "cannot be told from" in table


def test_bits_per_byte_is_what_it_says(base: Artifact, tokens: Artifact, context: Any) -> None:
    """Once more from the text: bits of windows of documents that fit the context, over their UTF-8 bytes."""
    given = {"ngram": False, "unigram": False, "bootstrap_samples": 100, "max_documents": 6}
    scores = run(given, [base], tokens, context)
    tokenizer, shards = Tokenizer.load(base.path), TokenShards.open(tokens.path, "validation")
    model, bits, n_bytes = load_model(base.path), 0.0, 0
    longest = 0
    for i in chosen_documents(shards.n_documents, 6):
        ids = shards.document(i).tolist()
        longest = max(longest, len(ids))
        n_bytes += len(tokenizer.decode(ids).encode())
        for t in range(1, len(ids)):  # 48 tokens of context, in strides of 24
            start = 0 if t < 48 else min((t - 48) // 24 * 24 + 24, len(ids) - 48)
            bits -= model.token_logprobs([ids[start : t + 1]])[0][-1] / math.log(2)
    assert longest > 48, "windows are needed"
    assert measure(scores, "bits_per_byte").scores[0].value == pytest.approx(bits / n_bytes, rel=1e-4)


def test_an_interrupted_evaluation_goes_on_where_it_was(
    given: dict[str, Any], base: Artifact, tuned: Artifact, tokens: Artifact, context: Any, tmp_path: Path
) -> None:
    whole = run(given, [base, tuned], tokens, context)
    first = (context.folder / "scores.json").read_bytes()
    broken = type(context)(tmp_path / "f2", tmp_path / "s2")
    broken.folder.mkdir()
    broken.state.mkdir()
    n_reports = len(context.told)
    for stop_after in (2, 3):
        broken.stop_after = len(broken.told) + stop_after
        with pytest.raises(Interrupted):
            run(given, [base, tuned], tokens, broken)
    broken.stop_after = None
    before = len(broken.told)
    assert run(given, [base, tuned], tokens, broken) == whole
    assert (broken.folder / "scores.json").read_bytes() == first
    assert len(broken.told) - before < n_reports, "what was scored is not scored again"


def test_equal_models_are_never_called_better(
    base: Artifact, tokenizer: Tokenizer, tokens: Artifact, context: Any, make_model: Any, tmp_path: Path
) -> None:
    twin = make_model(tmp_path / "twin", "base", tokenizer, 0, key="twin-key0000")
    scores = run({"bootstrap_samples": 100, "ngram": False, "unigram": False}, [base, twin], tokens, context)
    assert [line.name for line in scores.models] == ["base-base-k", "base-twin-k"], (
        "two of one name are told apart"
    )
    (difference,) = measure(scores, "bits_per_byte").differences
    assert difference.value == 0 and difference.better is None and "cannot be told" in difference.verdict
    with pytest.raises(ArrieroError, match="'base' is given twice"):
        run({}, [base, base], tokens, context)


def test_testing_on_training_data_is_refused(
    given: dict[str, Any], tokenizer: Tokenizer, tokens: Artifact, context: Any, make_model: Any, tmp_path: Path,
    conversations: Path,
) -> None:  # fmt: skip
    source = SourceRecord(path="c.jsonl", bytes=1, sha256=sha256_file(conversations))
    model = make_model(
        tmp_path / "m",
        "sft",
        tokenizer,
        0,
        settings={"holdout_share": 0.1, "holdout_seed": 0},
        sources=[source],
    )
    with pytest.raises(
        ArrieroError, match=r"'sft' held out a share of 0.1 .* trained on part of what is tested"
    ):
        run(given, [model], tokens, context)
    given["holdout_share"] = 0.1
    assert run(given, [model], tokens, context).measures


def test_bad_settings_are_one_clear_line(
    base: Artifact, tokens: Artifact, context: Any, conversations: Path
) -> None:
    for given, match in (
        ({"split": "test"}, "no split 'test'"),
        ({"baseline": "bse"}, "did you mean 'base'"),
        ({"stride": 48}, "stride 48 leaves nothing"),
        ({"conversations": [conversations], "holdout_share": 1e-9}, "no held-out conversations are left"),
        ({"prompts": ["llama " * 60], "ngram": False}, "context"),
    ):
        with pytest.raises(ArrieroError, match=match):
            run(given, [base], tokens, context)


def test_plan_and_run_make_the_same(
    given: dict[str, Any],
    base: Artifact,
    tuned: Artifact,
    tokens: Artifact,
    context: Any,
    profile: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the plan's table of bytes per token is for real vocabularies; this toy one knows hardly more than bytes
    tokenizer = Tokenizer.load(base.path)
    text = "".join(path.read_text() for path in given["conversations"])
    monkeypatch.setattr(
        planned_rows, "bytes_per_token", lambda vocab: len(text.encode()) / len(tokenizer.encode(text))
    )
    stage = get_stage("evaluate")
    specs = {
        "models": [open_input(m, ModelSpec) for m in (base, tuned)],
        "tokens": open_input(tokens, TokensSpec),
    }
    plan = stage.plan(stage.Settings(**given), specs, profile)
    assert plan.estimate.seconds.value > 0 and plan.estimate.peak_memory.value > profile.process_bytes
    scores = run(given, [base, tuned], tokens, context)
    assert plan.spec.measures == [m.name for m in scores.measures] and len(plan.spec.models) == len(
        scores.models
    )
    assert plan.estimate.flops.value == pytest.approx(context.flops, rel=0.35)
    int4 = specs["models"][0].model_copy(update={"format": "int4"})
    more = stage.plan(stage.Settings(**given), {**specs, "models": [int4, specs["models"][1]]}, profile)
    assert more.estimate.seconds.value > plan.estimate.seconds.value, (
        "packed weights are unpacked at every pass"
    )


def test_plan_without_rates_says_so(base: Artifact, tokens: Artifact, profile: Any) -> None:
    stage = Evaluate()
    specs = {"models": [open_input(base, ModelSpec)], "tokens": open_input(tokens, TokensSpec)}
    bare = profile.model_copy(update={"rates": {}})
    assert not stage.plan(stage.Settings(), specs, bare).estimate.seconds.known
    without = stage.plan(stage.Settings(ngram=False, unigram=False), specs, bare).estimate.seconds
    assert without.known and "no real pass was measured" in without.source


def test_a_model_with_another_tokenizer_is_scored_on_the_same_bytes(
    base: Artifact, tokens: Artifact, context: Any, make_model: Any, tmp_path: Path
) -> None:
    other = train_bpe(["salt and wool"] * 5, 300, "llama3", 2)
    model = make_model(tmp_path / "m", "other", other, 3)
    scores = run({"bootstrap_samples": 100, "ngram": False, "unigram": False}, [base, model], tokens, context)
    found = measure(scores, "bits_per_byte").scores
    # random weights spend log2(vocabulary) bits a token; the other vocabulary needs more tokens
    assert found[1].value > found[0].value
    assert np.isfinite(found[1].value)


def test_the_probe_measures_what_the_plan_asks_for(profile: Any) -> None:
    rates = Evaluate().probe()
    assert rates.keys() == profile.rates.keys()
    assert all(rate.per_s > 0 for rate in rates.values())
