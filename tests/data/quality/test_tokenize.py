"""The stage ``tokenize`` with documents that are taken as often as their quality says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arriero.artifacts import Artifact, Manifest
from arriero.cost.device import Rate
from arriero.data import encode_load
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.trace import trace_token
from arriero.data.corpus import Corpus
from arriero.data.filters.classifier import LinearModel
from arriero.data.quality.copies import copies
from arriero.data.shards import TokenShards
from arriero.errors import ArrieroError, Interrupted
from arriero.stage import get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

CURATE, TOKENIZE = get_stage("curate"), get_stage("tokenize")
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="B"))
TEXTS = sample_texts(120_000, words_per_text=70)
BUCKETS = [{"at_least": 0.55, "epochs": 2.5}, {"at_least": 0.45, "epochs": 1}]
QUALITY: dict[str, Any] = {"figure": "quality_random", "buckets": BUCKETS, "otherwise": 0.25}
SEED = 7
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(TEXTS[:100], 400, "llama3", 2).save(folder)
    return folder


def corpus_settings(folder: Path, **more: Any) -> Any:
    """Two files, so many splits and shards, and a classifier that finds at random."""
    files = []
    for number in range(2):
        path = folder / f"file{number}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[number::2]))
        files.append({"path": path, "name": f"s{number}", "license": "CC0-1.0"})
    model = folder / "random.safetensors"
    weights = np.random.default_rng(3).normal(0, 4, 256).astype(np.float32)
    LinearModel(weights, 0.0, 0, {}).save(model)
    given = {
        "sources": files, "rules": {"presets": ["none"]}, "split_bytes": 8000, "shard_bytes": 20_000,
        "classifiers": [{"name": "random", "path": model, "min_score": None}], "validation_share": 0.1,
        "executor": {"kind": "inline"},
    }  # fmt: skip
    return CURATE.Settings(**{**given, **more})


def artifact(folder: Path, kind: str, outcome_spec: Any, settings: Any) -> Artifact:
    made = Manifest(
        name=kind, kind=kind, makes=outcome_spec.type, key="0" * 64, stage_version=1, seed=SEED, started="", ended="",
        spec=outcome_spec.model_dump(mode="json"), settings=settings.model_dump(mode="json"),
    )  # fmt: skip
    (folder / "manifest.json").write_text(made.model_dump_json())
    return Artifact(folder, made)


@pytest.fixture
def corpus(tmp_path: Path, make_context: Make) -> Artifact:
    settings = corpus_settings(tmp_path)
    context = make_context()
    return artifact(context.folder, "curate", CURATE.run(settings, {}, context).spec, settings)


@pytest.fixture
def tokenize(tokenizer: Path, make_context: Make, make_manifest: Make) -> Make:
    made = make_manifest("t", "tokenizer", {"type": "tokenizer", "vocab_size": 400, "bytes_per_token": 2.0})

    def run(corpus: Artifact, context: Any = None, quality: Any = QUALITY, **executor: Any) -> Any:
        context = context or make_context()
        settings = TOKENIZE.Settings(
            shard_tokens=2000, executor=executor or {"kind": "inline"}, quality=quality
        )
        inputs = {"corpus": corpus, "tokenizer": Artifact(tokenizer, made)}
        return TOKENIZE.run(settings, inputs, context), context

    return run


def figures(corpus: Path, column: str = "m_quality_random") -> dict[str, float]:
    """By identifier, straight from the ledger."""
    tables = CuratedCorpus(corpus).tables(["id", column])
    return {row["id"]: row[column] for _, table in tables for row in table.to_pylist()}


def wanted_copies(value: float, id: str) -> int:
    return copies(id, 2.5 if value >= 0.55 else 1 if value >= 0.45 else 0.25, SEED)


def texts_of(folder: Path, tokenizer: Path, split: str = "train") -> list[str]:
    shards, decoder = TokenShards.open(folder, split), Tokenizer.load(tokenizer)
    return [decoder.decode(shards.document(n).tolist()) for n in range(shards.n_documents)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_document_is_there_as_often_as_its_figure_says(
    corpus: Artifact, tokenize: Make, tokenizer: Path
) -> None:
    outcome, context = tokenize(corpus)
    documents = list(Corpus(corpus.path).iter_documents("train"))
    assert len(Corpus(corpus.path).files["train"]) > 3
    found = figures(corpus.path)
    n_copies = {d.id: wanted_copies(found[d.id], d.id) for d in documents}
    assert set(n_copies.values()) == {0, 1, 2, 3}
    texts = texts_of(context.folder, tokenizer)
    assert Counter(texts) == Counter({d.text: n_copies[d.id] for d in documents if n_copies[d.id]})
    heldout = [d.text for d in Corpus(corpus.path).iter_documents("validation")]
    assert texts_of(context.folder, tokenizer, "validation") == heldout, "held-out text stays as it is"

    account = json.loads((context.folder / "quality.json").read_text())
    assert account == outcome.facts["quality"]
    buckets = account["buckets"]
    assert sum(one["documents"] for one in buckets) == len(documents), "nothing is lost"
    assert sum(one["bytes"] for one in buckets) == sum(len(d.text.encode()) for d in documents)
    assert sum(one["left_out"] for one in buckets) == sum(not n for n in n_copies.values())
    assert sum(one["written"] for one in buckets) == len(texts)
    train = outcome.spec.splits["train"]
    assert sum(one["unique_tokens"] + one["repeated_tokens"] for one in buckets) == train.tokens
    assert sum(one["repeated_tokens"] for one in buckets) == train.repeated > 0
    best = [d for d in documents if found[d.id] >= 0.55]
    assert buckets[0]["label"] == "quality_random >= 0.55"
    assert buckets[0]["documents"] == len(best)
    assert 2.2 < buckets[0]["written"] / len(best) < 2.8


def test_copies_of_a_document_lie_apart(corpus: Artifact, tokenize: Make, tokenizer: Path) -> None:
    _, context = tokenize(corpus)
    texts = texts_of(context.folder, tokenizer)
    last: dict[str, int] = {}
    gaps = []
    for number, text in enumerate(texts):
        if text in last:
            gaps.append(number - last[text])
        last[text] = number
    assert len(gaps) > 50
    assert min(gaps) > 10, "a pass over all files lies between two copies"


def test_any_worker_and_any_kill_gives_the_same(
    corpus: Artifact, tokenize: Make, make_context, monkeypatch
) -> None:
    outcome, context = tokenize(corpus)
    monkeypatch.setattr(encode_load, "POOL_WORTH_BYTES", 0)
    other, many = tokenize(corpus, workers=2)
    assert contents(many.folder) == contents(context.folder)
    assert other.facts["quality"] == outcome.facts["quality"]
    broken = make_context(stop_after=4)
    with pytest.raises(Interrupted):
        tokenize(corpus, broken)
    broken._left = None
    again, _ = tokenize(corpus, broken)
    assert again.facts["quality"] == outcome.facts["quality"]
    assert contents(broken.folder) == contents(context.folder)


def test_a_file_taken_up_in_its_midst_keeps_its_account(
    corpus: Artifact, tokenize: Make, make_context, monkeypatch
) -> None:
    from arriero.data import shard_writer

    outcome, _ = tokenize(corpus)
    monkeypatch.setattr(shard_writer, "BATCH_BYTES", 2000)
    broken = make_context(stop_after=9)
    with pytest.raises(Interrupted):
        tokenize(corpus, broken)
    assert list(broken.state.glob("tokens-train-*.bin")), "something of it is written"
    assert not all((broken.state / f"train-{n:05d}-00.whole.json").exists() for n in range(4))
    broken._left = None
    again, _ = tokenize(corpus, broken)
    assert again.facts["quality"] == outcome.facts["quality"]


def test_the_order_of_sources_and_the_cuts_change_nothing(
    tmp_path: Path, make_context: Make, tokenize: Make, tokenizer: Path, corpus: Artifact
) -> None:
    """Another order of the sources, other splits, other shards: each document has as many copies."""
    settings = corpus_settings(tmp_path, split_bytes=30_000, shard_bytes=1 << 20)
    settings = settings.model_copy(update={"sources": settings.sources[::-1]})
    context = make_context()
    other = artifact(context.folder, "curate", CURATE.run(settings, {}, context).spec, settings)
    assert len(Corpus(other.path).files["train"]) == 1
    first, second = (texts_of(tokenize(one)[1].folder, tokenizer) for one in (corpus, other))
    assert Counter(first) == Counter(second)


def test_every_token_leads_to_its_document_and_copy(corpus: Artifact, tokenize: Make, tmp_path: Path) -> None:
    from arriero.artifacts.manifest import InputRecord

    outcome, context = tokenize(corpus)
    settings = TOKENIZE.Settings(quality=QUALITY)
    made = artifact(context.folder, "tokenize", outcome.spec, settings).manifest
    path = Path("../..") / corpus.path.relative_to(tmp_path)
    record = InputRecord(
        role="corpus", name="corpus", kind="curate", key="0" * 64, content="0" * 64, path=str(path)
    )
    (context.folder / "manifest.json").write_text(
        made.model_copy(update={"inputs": [record]}).model_dump_json()
    )
    shards, found = TokenShards.open(context.folder, "train"), figures(corpus.path)
    seen: Counter[str] = Counter()
    for number in range(0, shards.n_documents, 5):
        trace = trace_token(context.folder, int(shards.documents_starts[number]) + 3)
        assert trace.notes == []
        assert trace.token is not None
        id = trace.ledger["id"]
        assert trace.token.copies == wanted_copies(found[id], id)
        assert 0 <= trace.token.copy < trace.token.copies
        seen[str(trace.token.copy)] += 1
    assert set(seen) == {"0", "1", "2"}
    heldout = trace_token(context.folder, 3, "validation")
    assert (heldout.notes, heldout.token and heldout.token.copies) == ([], 1)


def test_the_plan_foresees_the_tokens(corpus: Artifact, tokenize: Make, tmp_path: Path) -> None:
    from arriero.stage import CorpusSpec, TokenizerSpec

    outcome, _ = tokenize(corpus)
    plain, _ = tokenize(corpus, quality=None)
    ratio = plain.facts["bytes_per_token"]["train"]
    tokens = TokenizerSpec(vocab_size=400, bytes_per_token=ratio)
    foreseen = CURATE.plan(corpus_settings(tmp_path), {}, DEVICE).spec
    settings = TOKENIZE.Settings(quality=QUALITY)
    for spec in (foreseen, CorpusSpec.model_validate(corpus.manifest.spec)):
        plan = TOKENIZE.plan(settings, {"corpus": spec, "tokenizer": tokens}, DEVICE)
        train = plan.spec.splits["train"]
        assert train.tokens == pytest.approx(outcome.spec.splits["train"].tokens, rel=0.1)
        assert train.repeated == pytest.approx(outcome.spec.splits["train"].repeated, rel=0.15)
        assert "quality_random of the corpus's text" in plan.notes[-1]
    wrong = TOKENIZE.Settings(quality={**QUALITY, "figure": "quality_randon"})
    with pytest.raises(ArrieroError, match=r"no figure 'quality_randon'; did you mean 'quality_random'"):
        TOKENIZE.plan(wrong, {"corpus": foreseen, "tokenizer": tokens}, DEVICE)
    fact = TOKENIZE.Settings(quality={"figure": "words", "buckets": [{"at_least": 60, "epochs": 6}]})
    plan = TOKENIZE.plan(fact, {"corpus": foreseen, "tokenizer": tokens}, DEVICE)
    assert "between 1 and 6" in plan.notes[-1] and "more than the 4" in plan.notes[-1]


def test_facts_are_figures_too(corpus: Artifact, tokenize: Make, tokenizer: Path) -> None:
    quality = {"figure": "words", "buckets": [{"at_most": 70, "epochs": 0}], "otherwise": 1}
    _, context = tokenize(corpus, quality=quality)
    found = figures(corpus.path, "f_words")
    documents = Corpus(corpus.path).iter_documents("train")
    assert texts_of(context.folder, tokenizer) == [d.text for d in documents if found[d.id] > 70]


def test_what_cannot_be_weighted(corpus: Artifact, tokenize: Make, corpus_artifact: Make) -> None:
    with pytest.raises(ArrieroError, match=r"no figure 'quality_rendom'; did you mean 'quality_random'"):
        tokenize(corpus, quality={**QUALITY, "figure": "quality_rendom"})
    with pytest.raises(ArrieroError, match="holds no numbers"):
        tokenize(corpus, quality={**QUALITY, "figure": "license"})
    nothing = {"figure": "words", "buckets": [{"at_least": 0, "epochs": 0}]}
    with pytest.raises(ArrieroError, match="no training text"):
        tokenize(corpus, quality=nothing)
    bare = corpus_artifact(train=["one text", "another"])
    with pytest.raises(ArrieroError, match="has no ledger"):
        tokenize(bare)


def test_a_mixture_says_what_is_repeated(corpus: Artifact, tokenize: Make) -> None:
    from arriero.data.mix import MixSettings, mixed_spec, mixture_lines

    weighted, plain = tokenize(corpus)[0].spec, tokenize(corpus, quality=None)[0].spec
    mixed = mixed_spec(MixSettings(), {"good": weighted, "plain": plain})
    assert mixed.splits["train"].repeated == weighted.splits["train"].repeated
    lines = mixture_lines(mixed)
    assert "further copies of good documents" in lines[0] and "further copies" not in lines[1]
