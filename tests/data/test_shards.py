from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.artifacts import Artifact
from arriero.cost.device import Rate
from arriero.data.shards import PackedWindows, TokenShards, token_type
from arriero.errors import ArrieroError, DamagedArtifactError, Interrupted
from arriero.stage import CorpusSpec, TokenizerSpec, get_stage, open_input
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

STAGE = get_stage("tokenize")
DEVICE: Any = SimpleNamespace(process_bytes=3e8, rate=lambda name: Rate(per_s=1e6, spread=0.2, unit="B"))
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(sample_texts(20_000), 300, "llama3", 2)


@pytest.fixture
def tokenize(
    tokenizer: Tokenizer, tmp_path: Path, make_context: Make, make_manifest: Make, corpus_artifact: Make
) -> Callable[..., tuple[Any, Path]]:
    """Run the stage over texts by split; returns its outcome and folder."""
    tokenizer.save(tmp_path / "tokenizer")
    spec = {"type": "tokenizer", "vocab_size": tokenizer.vocab_size, "bytes_per_token": 2.0}
    artifact = Artifact(tmp_path / "tokenizer", make_manifest("tokenizer", "tokenizer", spec))

    def run(shard_tokens: int = 64, context: Any = None, **splits: list[str]) -> tuple[Any, Path]:
        context = context or make_context()
        inputs = {"corpus": corpus_artifact(**splits), "tokenizer": artifact}
        return STAGE.run(STAGE.Settings(shard_tokens=shard_tokens), inputs, context), context.folder

    return run


@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=12),
    shard_tokens=st.integers(1, 60),
    length=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_documents_and_windows_for_any_corpus(
    tokenizer: Tokenizer, tokenize: Make, texts: list[str], shard_tokens: int, length: int
) -> None:
    outcome, folder = tokenize(shard_tokens, train=texts, validation=texts[:1])
    shards = TokenShards.open(folder, "train")
    documents = [tokenizer.encode(text, bos=True, eos=True) for text in texts]
    stream = np.concatenate(documents)
    assert shards.n_documents == len(texts)
    assert shards.bytes == sum(len(text.encode()) for text in texts)
    assert [shards.document(i).tolist() for i in range(len(texts))] == documents
    assert np.array_equal(shards.tokens(0, shards.n_tokens), stream)
    assert outcome.spec.splits["train"].tokens == len(stream) == shards.n_tokens
    meta = json.loads((folder / "tokens.json").read_text())
    for shard in meta["splits"]["train"]["shards"]:
        assert shard["tokens"] <= shard_tokens or shard["documents"] == 1

    owner = np.repeat(np.arange(len(documents)), list(map(len, documents)))
    if (len(stream) - 1) // length == 0:
        with pytest.raises(ArrieroError, match="do not fill one window"):
            PackedWindows(shards, length)
        return
    windows = PackedWindows(shards, length)
    targets = []
    for number in range(len(windows)):
        ids, segments = windows[number]
        at = slice(number * length, number * length + length + 1)
        assert (ids.dtype, segments.dtype, ids.shape) == (np.int64, np.int64, (length + 1,))
        assert np.array_equal(ids, stream[at])
        assert np.array_equal(segments, owner[at] - owner[at.start])
        targets += ids[1:].tolist()
    assert targets == stream[1 : 1 + len(targets)].tolist()  # each token is a target once
    assert len(targets) + windows.tail == len(stream) - 1
    batch_ids, batch_segments = windows.batch(range(len(windows)))
    assert np.array_equal(batch_ids, np.stack([windows[i][0] for i in range(len(windows))]))
    assert np.array_equal(batch_segments, np.stack([windows[i][1] for i in range(len(windows))]))


def test_any_stretch_over_shard_borders(tokenize: Make) -> None:
    _, folder = tokenize(20, train=["abc def"] * 9)
    shards = TokenShards.open(folder, "train")
    whole = shards.tokens(0, shards.n_tokens)
    for start in range(0, shards.n_tokens + 1, 3):
        for stop in range(start, shards.n_tokens + 1, 5):
            assert np.array_equal(shards.tokens(start, stop), whole[start:stop])
    windows = PackedWindows(shards, 4)
    for wrong in (
        lambda: shards.tokens(0, shards.n_tokens + 1),
        lambda: shards.document(9),
        lambda: windows[len(windows)],
    ):
        with pytest.raises(IndexError):
            wrong()
    with pytest.raises(IndexError):
        windows.batch([-1])


def test_the_tokenizer_travels_along(tokenizer: Tokenizer, tokenize: Make) -> None:
    outcome, folder = tokenize(train=["hello"], validation=["world"])
    assert (
        Tokenizer.load(folder / "tokenizer").fingerprint
        == tokenizer.fingerprint
        == outcome.facts["tokenizer"]
    )
    assert json.loads((folder / "tokens.json").read_text())["tokenizer"] == tokenizer.fingerprint
    assert sorted(outcome.spec.splits) == ["train", "validation"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_stopped_and_taken_up_gives_the_same_bytes(
    tokenize: Make, make_context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arriero.data.shard_writer.BATCH_BYTES", 100)
    texts = sample_texts(3_000, words_per_text=10)
    _, whole = tokenize(100, train=texts, validation=texts[:3])
    state, stops = None, 0
    for allowed in (0, 3, 10, 1000):
        context = make_context(stop_after=allowed)
        state = context.state = state or context.state
        try:
            _, folder = tokenize(100, context, train=texts, validation=texts[:3])
        except Interrupted:
            stops += 1
        else:
            assert contents(folder) == contents(whole)
    assert stops == 3
    finished = json.loads((state / "train.json").read_text())["shards"]
    assert len(finished) > 3
    # killed after the shards went to the artifact's folder: they are still there for the next run
    again = make_context()
    again.state = state
    assert contents(tokenize(100, again, train=texts, validation=texts[:3])[1]) == contents(whole)


def test_finished_shards_are_not_made_again(tokenize: Make, make_context: Make) -> None:
    texts = sample_texts(3_000, words_per_text=10)
    first = make_context()
    tokenize(100, first, train=texts, validation=[])
    kept = sorted(first.state.glob("tokens-*.bin"))
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = make_context()
    again.state = first.state
    tokenize(100, again, train=texts, validation=[])
    assert [path.stat().st_mtime_ns for path in kept] == stamps


@pytest.mark.parametrize("name", ["tokens-train-00000.bin", "tokens-train-00001.idx"])
def test_a_damaged_shard_is_one_clear_line(tokenize: Make, name: str) -> None:
    _, folder = tokenize(20, train=["some text here"] * 6)
    data = (folder / name).read_bytes()
    faults = [(data[:-1], "is cut short"), (data + b"x", "is too long")]
    if name.endswith("idx"):
        faults.append((data[::-1], "does not fit"))
    for content, said in faults:
        (folder / name).unlink()
        (folder / name).write_bytes(content)
        with pytest.raises(DamagedArtifactError, match=f"{name} {said}"):
            TokenShards.open(folder, "train")
    (folder / name).unlink()
    with pytest.raises(DamagedArtifactError, match="is missing"):
        TokenShards.open(folder, "train")


def test_what_is_no_tokens_artifact(tokenize: Make, tmp_path: Path) -> None:
    with pytest.raises(ArrieroError, match="holds no token shards"):
        TokenShards.open(tmp_path, "train")
    (tmp_path / "tokens.json").write_text("{}")
    with pytest.raises(DamagedArtifactError, match="cannot be read"):
        TokenShards.open(tmp_path, "train")
    _, folder = tokenize(train=["a"])
    with pytest.raises(ArrieroError, match="no split 'test'"):
        TokenShards.open(folder, "test")
    with pytest.raises(ArrieroError, match="no training text"):
        tokenize(train=[])


def test_type_of_the_ids() -> None:
    assert [token_type(n) for n in (300, 65_535, 65_536, 10**6)] == ["uint16", "uint16", "uint32", "uint32"]


def test_large_vocabularies_are_stored_in_four_bytes(
    tokenizer: Tokenizer, tokenize: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokenizer, "vocab_size", property(lambda self: 70_000))
    _, folder = tokenize(train=["a text"])
    shards = TokenShards.open(folder, "train")
    assert (folder / "tokens-train-00000.bin").stat().st_size == 4 * shards.n_tokens
    assert shards.document(0).tolist() == tokenizer.encode("a text", bos=True, eos=True)


def test_plan_is_near_the_truth(tokenizer: Tokenizer, tokenize: Make, corpus_artifact: Make) -> None:
    texts = sample_texts(20_000)
    outcome, _ = tokenize(train=texts, validation=texts[:2])
    ratio = outcome.facts["bytes_per_token"]["train"]
    specs = {
        "corpus": open_input(corpus_artifact(train=texts, validation=texts[:2]), CorpusSpec),
        "tokenizer": TokenizerSpec(vocab_size=tokenizer.vocab_size, bytes_per_token=ratio),
    }
    plan = STAGE.plan(STAGE.Settings(), specs, DEVICE)
    assert plan.spec.splits["train"].documents == len(texts)
    assert plan.spec.splits["train"].tokens == pytest.approx(outcome.spec.splits["train"].tokens, rel=0.001)
    assert plan.estimate.seconds.value == pytest.approx(0.22, abs=0.01)
    rates = STAGE.probe()
    assert rates["tokenize.bytes_per_s"].per_s > 10_000
    assert rates["tokenize.fast_bytes_per_s"].per_s > rates["tokenize.bytes_per_s"].per_s


def test_plan_of_much_text_reckons_with_tiktoken_and_workers() -> None:
    rates = {"tokenize.bytes_per_s": 1e6, "tokenize.fast_bytes_per_s": 5e6}
    device: Any = SimpleNamespace(
        process_bytes=3e8,
        rate=lambda name: Rate(per_s=rates[name], spread=0.2, unit="B") if name in rates else None,
    )
    split = {"documents": 10_000, "bytes": 100_000_000}
    tokenizer = TokenizerSpec(vocab_size=4096, bytes_per_token=4.0)

    def plan(files: int, **executor: Any) -> Any:
        specs = {"corpus": CorpusSpec(splits={"train": {**split, "files": files}}), "tokenizer": tokenizer}
        return STAGE.plan(STAGE.Settings(executor=executor), specs, device).estimate

    one, four = plan(1, workers=4), plan(9, workers=4)
    assert one.seconds.value == pytest.approx(21)
    assert one.seconds.high == pytest.approx(100.2 * 1.35)
    assert four.seconds.value == pytest.approx(0.7 + 6), "and their start"
    assert plan(9, kind="inline").seconds.value == pytest.approx(21)
    assert four.peak_memory.value > one.peak_memory.value + 3e8
    del rates["tokenize.fast_bytes_per_s"]
    assert plan(1).seconds.value == pytest.approx(100.2)
