"""Families side by side: real decoders and real n-gram models of one corpus, with made-up costs and curves."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact, Manifest
from arriero.artifacts.artifact import list_files
from arriero.artifacts.manifest import InputRecord
from arriero.errors import ArrieroError, Interrupted
from arriero.evaluation.bits_per_byte import score_documents
from arriero.evaluation.compare import Compare
from arriero.evaluation.compare_result import Comparison, Family
from arriero.evaluation.compare_scorer import drawn_documents
from arriero.evaluation.documents import load_documents, training_documents
from arriero.models.checkpoint import load_model
from arriero.models.ngram import NGram
from arriero.stage import ModelSpec, get_stage
from arriero.tokenization.tokenizer import Tokenizer

Make = Callable[..., Artifact]
SETTINGS: dict[str, Any] = {"bootstrap_samples": 200, "max_documents": 0}


def trained_on(tokens: Artifact, artifact: Artifact, **more: Any) -> Artifact:
    """The artifact with a manifest that says what it was trained on, and what that took."""
    record = InputRecord(
        role="tokens", name="tokens", kind="tokenize", key="k", content=tokens.manifest.content, path="."
    )
    manifest = artifact.manifest.model_copy(update={"inputs": [record], **more})
    (artifact.path / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact.open(artifact.path)


def curve(tokens: float, seconds: float, last: float) -> list[dict[str, float]]:
    """Held-out evaluations at 0, a half and all of the run."""
    return [
        {"step": step, "tokens": share * tokens, "cpu_seconds": share * seconds, "loss": loss}
        for step, share, loss in ((0, 0.0, 6.0), (5, 0.5, last + 0.2), (10, 1.0, last))
    ]


@pytest.fixture
def contestants(
    make_model: Make, tokens: Artifact, tokenizer: Tokenizer, tmp_path: Path
) -> dict[str, Artifact]:
    """Two runs of one net, two of another that saw half the tokens, and two n-gram models."""
    found = {}
    for family, seen, seconds in (("wide", 4000.0, 9.0), ("slow", 2000.0, 10.0)):
        for seed in (1, 2):
            name = f"{family}-{seed}"
            model = make_model(tmp_path / name, name, tokenizer, seed=10 * len(family) + seed)
            facts = {
                "tokens": seen,
                "cpu_seconds": seconds,
                "heldout": curve(seen, seconds, 5.0 + 0.01 * seed),
            }
            found[name] = trained_on(
                tokens, model, seed=seed, facts=facts, measured={"cpu_seconds": seconds + 3},
                settings={"seed": seed, "shape": family},
            )  # fmt: skip
    for order in (2, 3):
        found[f"ngram-{order}"] = ngram(tmp_path / f"ngram-{order}", order, tokens, tokenizer)
    return found


def ngram(folder: Path, order: int, tokens: Artifact, tokenizer: Tokenizer) -> Artifact:
    model = NGram.fit(training_documents(tokens.path, 0), order, tokenizer.vocab_size)
    model.save(folder)
    tokenizer.save(folder)
    spec = ModelSpec(
        config={"family": "ngram", "order": order, "vocab_size": tokenizer.vocab_size},
        n_parameters=sum(model.parameter_counts().values()),
        weight_bytes=1,
    )
    manifest = Manifest(
        name=folder.name, kind="ngram", makes="model", key=folder.name, stage_version=1, seed=1,
        settings={"order": order, "seed": 1}, files=list_files(folder), spec=spec.model_dump(mode="json"), started="", ended="",
        measured={"cpu_seconds": 0.5},
    )  # fmt: skip
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return trained_on(tokens, Artifact.open(folder))


def run(models: list[Artifact], tokens: Artifact, context: Any, **more: Any) -> Comparison:
    stage = Compare()
    outcome = stage.run(stage.Settings(**{**SETTINGS, **more}), {"models": models, "tokens": tokens}, context)
    found = Comparison.model_validate_json((context.folder / "comparison.json").read_bytes())
    assert outcome.spec.families == len(found.families) and outcome.spec.runs == len(models)
    return found


def family(found: Comparison, name: str) -> Family:
    return next(family for family in found.families if family.name == name)


def test_runs_of_one_family_are_put_together(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    found = run(list(contestants.values()), tokens, context)
    assert [f.name for f in found.families] == ["wide", "slow", "ngram-2", "ngram-3"]
    wide = family(found, "wide")
    assert [(r.name, r.seed, r.cpu_seconds, r.stage_cpu_seconds) for r in wide.runs] == [
        ("wide-1", 1, 9.0, 12.0),
        ("wide-2", 2, 9.0, 12.0),
    ]
    assert wide.equal_time.value == pytest.approx(np.mean([r.bits_per_byte for r in wide.runs]))
    assert wide.year == 2023 and family(found, "ngram-2").year == 1998
    assert family(found, "ngram-2").equal_time.seeds is None, "counting draws nothing"
    assert all(f.equal_time.documents for f in found.families)
    assert found.ngram in ("ngram-2", "ngram-3")


def test_final_figures_are_of_every_second_document(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    """Once more from the documents, with the code that ``evaluate`` uses."""
    found = run([contestants["wide-1"], contestants["ngram-3"]], tokens, context)
    documents = load_documents(tokens.path, "validation", 0)
    for name, model, length in (
        ("wide-1", load_model(contestants["wide-1"].path), 48),
        ("ngram-3", NGram.load(contestants["ngram-3"].path), None),
    ):
        bits = score_documents(model, documents, length)
        expected = bits[1::2].sum() / documents.bytes[1::2].sum()
        assert family(found, name).equal_time.value == pytest.approx(expected, rel=1e-6)
    assert found.documents + found.tuning_documents == len(documents.ids)
    assert found.bytes == documents.bytes[1::2].sum()


def test_mixture_is_fitted_on_the_other_half_and_helps_there(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    found = run(list(contestants.values()), tokens, context)
    for name in ("wide", "slow"):
        net = family(found, name)
        for one in net.runs:
            assert one.mixture is not None and one.mixture_weight is not None and 0 <= one.mixture_weight <= 1
            best = family(found, found.ngram or "").equal_time.value
            assert one.mixture < one.bits_per_byte and one.mixture < best + 0.01, (
                "random weights can't do harm"
            )
    assert family(found, "ngram-3").mixture is None
    against = {(v.model, v.to) for v in found.verdicts if v.view == "mixture"}
    assert against == {("wide", found.ngram), ("slow", found.ngram)}


def test_equal_tokens_is_read_from_the_curves(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    found = run(list(contestants.values()), tokens, context)
    assert found.tokens_compared == 2000
    split = tokens.manifest.spec["splits"]["validation"]
    per_nat = (split["tokens"] - split["documents"]) / split["bytes"] / math.log(2)
    for one in family(found, "slow").runs:
        assert one.equal_tokens == pytest.approx(one.bits_per_byte), "it had just seen so many"
    for one in family(found, "wide").runs:
        assert one.equal_tokens == pytest.approx(one.bits_per_byte + 0.2 * per_nat), (
            "0.2 nats higher half-way"
        )
        assert [round(p.bits_per_byte / per_nat, 2) for p in one.curve] == [
            6.0,
            5.2 + 0.01 * one.seed,
            5.0 + 0.01 * one.seed,
        ]
    assert family(found, "wide").equal_tokens is not None


def test_an_ngram_at_equal_tokens_is_fitted_on_as_many(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    """The slowest net has seen 900 tokens: the n-gram model of a random 900 is worse than that of all."""
    slow = contestants["slow-1"]
    few = {"tokens": 900.0, "cpu_seconds": 9.0, "heldout": curve(900.0, 9.0, 5.0)}
    found = run([trained_on(tokens, slow, facts=few), contestants["ngram-3"]], tokens, context)
    part = [np.asarray(ids) for ids in drawn_documents(tokens.path, 900)]
    assert sum(map(len, part)) == 900 < tokens.manifest.spec["splits"]["train"]["tokens"]
    documents = load_documents(tokens.path, "validation", 0)
    model = NGram.fit(part, 3, tokens.manifest.spec["vocab_size"])
    expected = score_documents(model, documents, None)[1::2].sum() / documents.bytes[1::2].sum()
    early = family(found, "ngram-3")
    assert early.equal_tokens is not None and early.equal_tokens.value == pytest.approx(expected)
    assert early.equal_tokens.value > early.equal_time.value


def test_verdicts_need_both_kinds_of_noise(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    found = run(list(contestants.values()), tokens, context)
    for verdict in found.verdicts:
        ends = [verdict.difference.seeds]
        if verdict.view != "equal_tokens":
            ends.append(verdict.difference.documents)
        one_side = all(pair is not None and (pair[0] > 0 or pair[1] < 0) for pair in ends)
        assert (verdict.better is not None) == one_side, verdict.sentence
        if verdict.better is not None:
            assert verdict.better == (verdict.difference.value < 0)
            assert ("better" if verdict.better else "worse") in verdict.sentence
        else:
            assert "cannot be told from" in verdict.sentence


def test_one_seed_gives_no_verdict(contestants: dict[str, Artifact], tokens: Artifact, context: Any) -> None:
    found = run([contestants["wide-1"], contestants["slow-1"]], tokens, context)
    assert [f.name for f in found.families] == ["wide-1", "slow-1"] and found.ngram is None
    assert all(verdict.better is None for verdict in found.verdicts) and found.verdicts
    assert any("9.0 to 10.0 CPU seconds" in note for note in found.notes), "that is no equal time"
    assert any("One seed only" in note for note in found.notes)
    assert all(f.mixture is None for f in found.families)


def test_files_say_the_same(contestants: dict[str, Artifact], tokens: Artifact, context: Any) -> None:
    found = run(list(contestants.values()), tokens, context)
    rows = list(csv.DictReader((context.folder / "comparison.csv").open()))
    assert [row["name"] for row in rows] == [f.name for f in found.families]
    assert float(rows[0]["equal_time"]) == found.families[0].equal_time.value
    assert rows[2]["equal_time_seeds_low"] == "" and float(rows[0]["mixture_seeds_low"])
    runs = list(csv.DictReader((context.folder / "runs.csv").open()))
    assert {row["name"]: float(row["bits_per_byte"]) for row in runs} == {
        r.name: r.bits_per_byte for f in found.families for r in f.runs
    }
    table = (context.folder / "comparison.md").read_text()
    assert all(verdict.sentence in table for verdict in found.verdicts)
    for name in ("cost", "year", "time_curves", "token_curves"):
        root = ElementTree.fromstring((context.folder / f"{name}.svg").read_text())
        texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "wide" in texts and "slow" in texts


def test_a_stopped_comparison_goes_on_with_what_is_scored(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = list(contestants.values())
    context.stop_after = 2
    with pytest.raises(Interrupted):
        run(models, tokens, context)
    context.stop_after = None
    from arriero.evaluation import compare_scorer

    read: list[str] = []
    real = compare_scorer.load_language_model
    monkeypatch.setattr(
        compare_scorer, "load_language_model", lambda path: (read.append(path.name), real(path))[1]
    )
    again = run(models, tokens, context)
    assert "wide-1" not in read and "ngram-3" in read
    context.state = context.state.parent / "fresh"
    context.state.mkdir()
    assert run(models, tokens, context) == again, "the same figures as in one go"


def test_a_model_of_other_tokens_is_refused(
    contestants: dict[str, Artifact], base: Artifact, tokens: Artifact, context: Any
) -> None:
    with pytest.raises(ArrieroError, match="'base' was not trained on the tokens 'tokens'"):
        run([contestants["wide-1"], base], tokens, context)


def test_two_models_of_one_name_are_refused(
    contestants: dict[str, Artifact], tokens: Artifact, context: Any
) -> None:
    with pytest.raises(ArrieroError, match="two of the compared models are named 'wide-1'"):
        run([contestants["wide-1"], contestants["wide-1"]], tokens, context)


def test_settings_are_strict() -> None:
    with pytest.raises(ValidationError):
        Compare.Settings(max_dokuments=3)
    assert get_stage("compare").makes == "comparison"


def test_years_can_be_given(contestants: dict[str, Artifact], tokens: Artifact, context: Any) -> None:
    found = run([contestants["wide-1"], contestants["ngram-2"]], tokens, context, years={"ngram": 1980})
    assert family(found, "ngram-2").year == 1980 and family(found, "wide-1").year == 2023


def test_plan_prices_every_model(
    contestants: dict[str, Artifact], tokens: Artifact, profile: Any, context: Any
) -> None:
    from arriero.stage import TokensSpec, open_input

    stage, specs = Compare(), [open_input(model, ModelSpec) for model in contestants.values()]
    given = {"models": specs, "tokens": open_input(tokens, TokensSpec)}
    plan = stage.plan(stage.Settings(**SETTINGS), given, profile)
    assert plan.spec.runs == 6 and plan.spec.families == 3, "planned nets of one shape look like one family"
    assert 0 < plan.estimate.seconds.low < plan.estimate.seconds.value < plan.estimate.seconds.high
    half = stage.plan(stage.Settings(**{**SETTINGS, "max_documents": 6}), given, profile)
    assert half.estimate.flops.value == pytest.approx(plan.estimate.flops.value / 2)
    run(list(contestants.values()), tokens, context)
    assert context.flops == pytest.approx(plan.estimate.flops.value, rel=0.35), (
        "planned for documents of mean length"
    )
    without = stage.plan(stage.Settings(**SETTINGS), {**given, "models": specs[:4]}, profile)
    assert without.estimate.seconds.value < plan.estimate.seconds.value
    with pytest.raises(ArrieroError, match="did you mean 'validation'"):
        stage.plan(stage.Settings(split="validatoin"), given, profile)


def test_facts_are_json(contestants: dict[str, Artifact], tokens: Artifact, context: Any) -> None:
    stage = Compare()
    given = {"models": list(contestants.values()), "tokens": tokens}
    outcome = stage.run(stage.Settings(**SETTINGS), given, context)
    facts = json.loads(json.dumps(outcome.facts))
    assert set(facts["bits_per_byte"]["equal_time"]) == {"wide", "slow", "ngram-2", "ngram-3"}
