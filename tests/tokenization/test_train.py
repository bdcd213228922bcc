from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from arriero.artifacts import Artifact
from arriero.cost.device import Rate
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import CorpusSpec, get_stage, open_input
from arriero.tokenization.bpe import train_bpe, train_bpe_fast
from arriero.tokenization.fast import FastEncoder
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

STAGE = get_stage("tokenizer")
SETTINGS = STAGE.Settings
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="B"))


def test_it_makes_what_it_says(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    corpus = corpus_artifact(train=sample_texts(60_000), validation=sample_texts(3_000))
    context = make_context()
    outcome = STAGE.run(SETTINGS(vocab_size=600), {"corpus": corpus}, context)
    tokenizer = Tokenizer.load(context.folder)
    assert outcome.spec.vocab_size == tokenizer.vocab_size == 600
    assert outcome.facts["merges"] == 600 - 261
    text = "".join(sample_texts(60_000))
    ids = sum(len(tokenizer.encode(t)) for t in sample_texts(60_000))
    assert outcome.spec.bytes_per_token == pytest.approx(len(text) / ids)
    assert context.reports[-1][:2] == (len(text), len(text))
    assert outcome.facts["bytes_read"] == len(text)

    again = make_context()
    STAGE.run(SETTINGS(vocab_size=600), {"corpus": corpus}, again)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (again.folder / name).read_bytes() == (context.folder / name).read_bytes()


def test_max_bytes_samples_documents_whatever_their_order(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    texts = [f"{n} {text}" for n, text in enumerate(sample_texts(60_000, words_per_text=40))]
    prints = []
    for order in (texts, texts[::-1]):
        context = make_context()
        outcome = STAGE.run(
            SETTINGS(vocab_size=300, max_bytes=20_000), {"corpus": corpus_artifact(train=order)}, context
        )
        assert 5_000 < outcome.facts["bytes_read"] <= 20_000
        prints.append(outcome.facts["bytes_read"])
    assert abs(prints[0] - prints[1]) < 1_000


def test_little_variety_is_reported_not_refused(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    context = make_context()
    outcome = STAGE.run(SETTINGS(vocab_size=4096), {"corpus": corpus_artifact(train=["ab ab ab"])}, context)
    assert 261 < outcome.spec.vocab_size < 300
    assert "too little variety" in context.said[0]


def test_empty_corpus_and_stop(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    with pytest.raises(ArrieroError, match="no training text"):
        STAGE.run(SETTINGS(), {"corpus": corpus_artifact(train=[])}, make_context())
    with pytest.raises(ArrieroError, match="holds no text"):
        STAGE.run(SETTINGS(), {"corpus": corpus_artifact(train=["", ""])}, make_context())
    with pytest.raises(Interrupted):
        STAGE.run(SETTINGS(), {"corpus": corpus_artifact(train=["a", "b"])}, make_context(stop_after=1))


def test_plan_is_near_the_truth(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    corpus = corpus_artifact(train=sample_texts(50_000))
    plan = STAGE.plan(SETTINGS(vocab_size=1000), {"corpus": open_input(corpus, CorpusSpec)}, DEVICE)
    outcome = STAGE.run(SETTINGS(vocab_size=1000), {"corpus": corpus}, make_context())
    assert plan.spec.vocab_size == outcome.spec.vocab_size
    assert plan.estimate.seconds.value == pytest.approx(0.2, abs=0.02)
    nothing = SimpleNamespace(process_bytes=1, rate=lambda name: None)
    assert not STAGE.plan(
        SETTINGS(), {"corpus": open_input(corpus, CorpusSpec)}, nothing
    ).estimate.seconds.known


def test_probe_measures_a_rate() -> None:
    assert STAGE.probe()["tokenizer.bytes_per_s"].per_s > 10_000


def test_the_fast_trainer_is_as_good_and_deterministic() -> None:
    pytest.importorskip("rustbpe")
    texts = [*sample_texts(200_000), "x" * 30 + " " * 20_000 + "y"]
    exact = train_bpe(texts, 1500, "llama3", 2)
    fast = train_bpe_fast(texts, 1500, "llama3")
    assert fast.vocab_size == 1500
    assert fast.special_ids == exact.special_ids
    assert train_bpe_fast(iter(texts), 1500, "llama3").fingerprint == fast.fingerprint
    tokens = [sum(map(len, one.encode_batch(texts))) for one in (exact, fast)]
    assert tokens[1] == pytest.approx(tokens[0], rel=0.003)
    assert [fast.decode(fast.encode(text)) for text in texts] == texts
    assert FastEncoder(fast).encode_batch(texts) == fast.encode_batch(texts)


def test_the_stage_trains_fast(
    make_context: Callable[..., Any], corpus_artifact: Callable[..., Artifact]
) -> None:
    pytest.importorskip("rustbpe")
    context = make_context()
    corpus = corpus_artifact(train=sample_texts(60_000))
    outcome = STAGE.run(SETTINGS(vocab_size=600, trainer="fast"), {"corpus": corpus}, context)
    assert outcome.facts["merges"] == 600 - 261
    assert Tokenizer.load(context.folder).fingerprint == outcome.facts["fingerprint"]


def test_the_fast_trainer_takes_no_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = get_stage("tokenizer").Settings
    for given in ({"min_frequency": 3}, {"max_bytes": 10**10}, {"algorithm": "wordpiece"}):
        with pytest.raises(ValueError, match="trainer"):
            settings(trainer="fast", **given)
    monkeypatch.setitem(sys.modules, "rustbpe", None)
    with pytest.raises(ArrieroError, match=r"needs the package rustbpe: .*arriero\[data\]"):
        train_bpe_fast(["a"], 300, "llama3")
