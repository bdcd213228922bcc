"""From a token, an id or a text back to the ledger row and the raw bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.data.audit.conftest import WORDS, Build, Builder, documents

from arriero.artifacts import Manifest
from arriero.artifacts.manifest import InputRecord
from arriero.cli import cli
from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.trace import find_text, trace_id, trace_row, trace_token
from arriero.data.documents import Document
from arriero.data.shard_writer import ShardWriter
from arriero.data.shards import META_FILE, TokenShards, TokensMeta, token_type
from arriero.data.tokenize import tokenizer_folder
from arriero.errors import ArrieroError
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.tokenizer import Tokenizer


def manifest(folder: Path, kind: str, inputs: list[tuple[str, Path]]) -> None:
    records = [
        InputRecord(
            role=role, name=path.name, kind="curate", key="0" * 64, content="0" * 64, path=f"../{path.name}"
        )
        for role, path in inputs
    ]
    found = Manifest(
        name=kind, kind=kind, makes="tokens", key="1" * 64, stage_version=1, settings={}, seed=0, inputs=records, spec={},
        started="", ended="",
    )  # fmt: skip
    (folder / "manifest.json").write_text(found.model_dump_json())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe([" ".join(WORDS)] * 4, 300, "llama3", 2)


def tokenize(corpus: Path, folder: Path, tokenizer: Tokenizer) -> Path:
    folder.mkdir()
    texts = CuratedCorpus(corpus)
    splits = {
        split: ShardWriter(folder, split, tokenizer, 5000).write(
            (Document.of_record(d) for d in texts.documents(split)), lambda n: None
        )
        for split in ("train", "validation")
    }
    meta = TokensMeta(
        dtype=token_type(tokenizer.vocab_size), vocab_size=tokenizer.vocab_size, tokenizer=tokenizer.fingerprint,
        bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, splits=splits,
    )  # fmt: skip
    (folder / META_FILE).write_text(meta.model_dump_json())
    tokenizer.save(tokenizer_folder(folder))
    manifest(folder, "tokenize", [("corpus", corpus)])
    return folder


def test_every_token_leads_to_its_document(build: Build, tokenizer: Tokenizer, tmp_path: Path) -> None:
    builder = build()
    tokens = tokenize(builder.folder, tmp_path / "tokens", tokenizer)
    shards = TokenShards.open(tokens, "train")
    kept = list(CuratedCorpus(builder.folder).documents("train"))
    rng = np.random.default_rng(0)
    for document in [0, len(kept) - 1, *rng.integers(0, len(kept), 4).tolist()]:
        start, end = (int(n) for n in shards.documents_starts[document : document + 2])
        for offset in (start, (start + end) // 2, end - 1):
            trace = trace_token(tokens, offset)
            assert trace.ledger["id"] == kept[document]["id"]
            assert trace.outcome == "kept"
            assert trace.notes == []
            assert trace.token is not None
            assert (trace.token.document, trace.token.position) == (document, offset - start)
            if start < offset < end - 1:
                at = trace.token.character
                assert kept[document]["text"][at : at + len(trace.token.token)] == trace.token.token
    with pytest.raises(ArrieroError, match="there is no"):
        trace_token(tokens, shards.n_tokens)


def test_a_token_of_a_mixture(build: Build, tokenizer: Tokenizer, tmp_path: Path) -> None:
    first, second = build(name="first"), build(documents()[:9], name="second")
    folders = [tokenize(one.folder, tmp_path / f"t{n}", tokenizer) for n, one in enumerate((first, second))]
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    metas = [TokensMeta.model_validate_json((f / META_FILE).read_bytes()) for f in folders]
    mixture: dict[str, Any] = {}
    for name, meta, folder in zip(("a", "b"), metas, folders, strict=True):
        (mixed / name).symlink_to(folder)
        shards = [s.model_copy(update={"file": f"{name}/{s.file}"}) for s in meta.splits["train"].shards]
        mixture[name] = {"share": 0.5, "splits": {"train": {"shards": shards}}}
    splits = {"train": {"shards": [s for m in mixture.values() for s in m["splits"]["train"]["shards"]]}}
    whole = TokensMeta.model_validate({**metas[0].model_dump(), "splits": splits, "mixture": mixture})
    (mixed / META_FILE).write_text(whole.model_dump_json())
    tokenizer.save(tokenizer_folder(mixed))
    manifest(mixed, "mix", [("tokens", folder) for folder in folders])
    shards = TokenShards.open(mixed, "train")
    trace = trace_token(mixed, shards.n_tokens - 1)
    assert trace.corpus.resolve() == second.folder.resolve()
    last = list(CuratedCorpus(second.folder).documents("train"))[-1]
    assert trace.ledger["id"] == last["id"]
    assert trace_token(mixed, 0).corpus.resolve() == first.folder.resolve()


def test_a_corpus_that_has_gone(build: Build, tokenizer: Tokenizer, tmp_path: Path) -> None:
    builder = build()
    tokens = tokenize(builder.folder, tmp_path / "tokens", tokenizer)
    builder.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(ArrieroError, match="no longer at"):
        trace_token(tokens, 0)


def test_by_id_with_edits_and_cuts(built: Builder) -> None:
    corpus = CuratedCorpus(built.folder)
    edited = trace_id(corpus, "web:3")
    assert [edit.reason for edit in edited.edits] == ["pii.email", "lines.policy"]
    assert edited.texts is not None
    assert edited.texts[0].startswith("Write to someone@")
    assert edited.texts[1].startswith("Write to <email>")
    cut = trace_id(corpus, "web:5")
    assert cut.texts is not None
    assert [edit.reason for edit in cut.line_edits] == ["duplicate.line"]
    assert cut.texts[2] == cut.texts[1][10:].strip()
    duplicate = next(n for n, one in enumerate(documents()) if one.dropped)
    assert trace_row(corpus, corpus.at(duplicate)).outcome == "duplicate.exact"
    with pytest.raises(ArrieroError, match="no record with the id"):
        trace_id(corpus, "web:999")


def test_by_text(built: Builder) -> None:
    corpus = CuratedCorpus(built.folder)
    wanted = documents()[7].text.split("\n")[1]
    assert [row.number for row in find_text(corpus, wanted)] == [7]
    assert [row.number for row in find_text(corpus, wanted.replace(" ", "  \n"))] == [7]
    assert find_text(corpus, "someone@example.org")[0].number == 3  # in the text before the edits
    assert find_text(corpus, "nowhere to be found") == []
    with pytest.raises(ArrieroError, match="empty"):
        find_text(corpus, "  ")


def test_the_command(built: Builder) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["data", "trace", str(built.folder), *arguments])

    text = run("web:3").output
    assert "someone@example.org" not in text
    assert "pii.email" in text
    data = json.loads(run("web:3", "--json").output)
    assert data[0]["ledger"]["id"] == "web:3"
    assert data[0]["raw"]["state"] == "unknown"
    failed = run("no such text")
    assert isinstance(failed.exception, ArrieroError)
