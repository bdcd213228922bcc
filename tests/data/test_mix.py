"""The stage ``mix``, on real token sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from arriero.artifacts import Artifact
from arriero.data.mix import MixSettings
from arriero.data.mixed_windows import MixedWindows, open_windows
from arriero.data.shards import TokenShards
from arriero.errors import ArrieroError
from arriero.stage import TokensSpec, get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

Make = Callable[..., Any]
MIX, TOKENIZE = get_stage("mix"), get_stage("tokenize")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(sample_texts(20_000), 300, "llama3", 2)


@pytest.fixture
def token_set(
    tokenizer: Tokenizer, tmp_path: Path, make_context: Make, make_manifest: Make, corpus_artifact: Make
) -> Callable[..., Artifact]:
    def make(name: str, n_texts: int, own: Tokenizer | None = None) -> Artifact:
        used = own or tokenizer
        used.save(tmp_path / f"tokenizer-{name}")
        spec = {"type": "tokenizer", "vocab_size": used.vocab_size, "bytes_per_token": 2.0}
        artifact = Artifact(tmp_path / f"tokenizer-{name}", make_manifest("tokenizer", "tokenizer", spec))
        texts = [f"{name} {number}: " + "word " * 30 for number in range(n_texts)]
        context = make_context()
        inputs = {"corpus": corpus_artifact(train=texts, validation=texts[:8]), "tokenizer": artifact}
        outcome = TOKENIZE.run(TOKENIZE.Settings(shard_tokens=500), inputs, context)
        return Artifact(context.folder, make_manifest(name, "tokens", outcome.spec.model_dump()))

    return make


def mixed(make_context: Make, tokens: dict[str, Artifact], **settings: Any) -> tuple[Any, Path, Any]:
    context = make_context()
    outcome = MIX.run(MixSettings(**settings), {"tokens": tokens}, context)
    return outcome, context.folder, context


def test_every_source_keeps_its_windows_and_gets_its_share(token_set: Make, make_context: Make) -> None:
    sources = {"web": token_set("web", 60), "wiki": token_set("wiki", 12)}
    outcome, folder, context = mixed(make_context, sources, weights={"web": 3, "wiki": 1})
    whole = TokenShards.open(folder, "train")
    parts = {name: TokenShards.open(a.path, "train") for name, a in sources.items()}
    assert np.array_equal(
        whole.tokens(0, whole.n_tokens), np.concatenate([p.tokens(0, p.n_tokens) for p in parts.values()])
    )
    found = open_windows(folder, "train", 16)
    windows = found.mixed
    assert isinstance(windows, MixedWindows) and list(found.by_source) == ["web", "wiki"]
    n_web = len(found.by_source["web"])
    taken = windows.order(5).take(0, 4096)
    assert sum(index < n_web for index in taken) == pytest.approx(3072, abs=1)
    for index in taken[:50]:
        source, local = ("web", index) if index < n_web else ("wiki", index - n_web)
        expected, segments = found.by_source[source][local]
        ids, found_segments = windows.batch([index])
        assert np.array_equal(ids[0], expected) and np.array_equal(found_segments[0], segments)
    assert outcome.spec.mixture["web"].share == 0.75
    assert any("wiki: 25.0% of the samples" in line for line in context.said)
    with pytest.raises(IndexError):
        windows.batch([len(found.by_source["web"]) + len(found.by_source["wiki"])])


def test_the_plan_knows_what_the_run_makes(token_set: Make, make_context: Make) -> None:
    sources = {"web": token_set("web", 40), "wiki": token_set("wiki", 10)}
    specs = {name: TokensSpec.model_validate(a.manifest.spec) for name, a in sources.items()}
    for rule in ({"epochs": {"web": 0.5, "wiki": 3}}, {"temperature": 2.0}, {}):
        outcome, folder, _ = mixed(make_context, sources, **rule)

        class Device:
            process_bytes = 3e8

        plan = MIX.plan(MixSettings(**rule), {"tokens": specs}, Device())
        assert plan.spec == outcome.spec
        windows = open_windows(folder, "train", 16).windows
        total = sum(spec.splits["train"].tokens for spec in specs.values())
        assert len(windows) == pytest.approx(total * outcome.spec.pass_epochs / 16, rel=0.05)


def test_epochs_are_what_a_pass_takes(token_set: Make, make_context: Make) -> None:
    sources = {"web": token_set("web", 60), "wiki": token_set("wiki", 20)}
    _, folder, _ = mixed(make_context, sources, epochs={"web": 0.5, "wiki": 2})
    found = open_windows(folder, "train", 8)
    assert found.mixed is not None
    taken = found.mixed.order(1).take(0, len(found.mixed))
    n_web, n_wiki = (len(w) for w in found.by_source.values())
    in_web = sum(index < n_web for index in taken)
    assert in_web == pytest.approx(0.5 * n_web, rel=0.1) and len(taken) - in_web == pytest.approx(
        2 * n_wiki, rel=0.1
    )


def test_the_validation_windows_are_known_by_source(token_set: Make, make_context: Make) -> None:
    _, folder, _ = mixed(make_context, {"a": token_set("a", 30), "b": token_set("b", 30)})
    found = open_windows(folder, "validation", 16)
    assert set(found.by_source) == {"a", "b"} and all(s.scored_per_byte > 0 for s in found.shards.values())


def test_what_does_not_fit_is_refused(token_set: Make, make_context: Make, tokenizer: Tokenizer) -> None:
    web = token_set("web", 30)
    other = token_set("other", 30, train_bpe(sample_texts(30_000), 310, "llama3", 2))
    with pytest.raises(ArrieroError, match="two sources or more, not 1"):
        mixed(make_context, {"web": web})
    with pytest.raises(ArrieroError, match="encoded by another tokenizer"):
        mixed(make_context, {"web": web, "other": other})
    with pytest.raises(ArrieroError, match="'wiki' has a weight but is no source"):
        mixed(make_context, {"web": web, "b": token_set("b", 20)}, weights={"web": 1, "b": 1, "wiki": 1})
    outcome, folder, _ = mixed(make_context, {"web": web, "b": token_set("b", 20)})
    again = Artifact(folder, web.manifest.model_copy(update={"spec": outcome.spec.model_dump()}))
    with pytest.raises(ArrieroError, match="'m' is a mixture itself"):
        mixed(make_context, {"m": again, "web": web})
    with pytest.raises(ValidationError, match="both decide on the shares"):
        MixSettings(weights={"a": 1.0}, temperature=2.0)
    with pytest.raises(ValidationError, match="no mixture 'lama-1'"):
        MixSettings(preset="lama-1")
