"""The stage ``tokenize`` over corpora of several files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from arriero.artifacts import Artifact
from arriero.data import encode as module
from arriero.data import encode_load
from arriero.data.corpus import Corpus
from arriero.data.encode import choose_encoder, encode_file, encode_tasks, encoded, is_encoded
from arriero.data.execute import ExecutorSettings, make_executor
from arriero.data.shards import TokenShards
from arriero.stage import get_stage
from arriero.tokenization.bpe import train_bpe
from arriero.tokenization.sample_text import sample_texts
from arriero.tokenization.tokenizer import Tokenizer

STAGE = get_stage("tokenize")
TEXTS = sample_texts(120_000)


def write(folder: Path, split: str, files: list[list[str]]) -> None:
    folder.mkdir(exist_ok=True)
    for number, texts in enumerate(files):
        records = [
            json.dumps({"id": f"{number}:{n}", "text": t, "source": "s"}) + "\n" for n, t in enumerate(texts)
        ]
        data = zstandard.compress("".join(records).encode())
        (folder / f"{split}-{number:05d}.jsonl.zst").write_bytes(data)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(TEXTS[:100], 500, "llama3", 2).save(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    write(folder, "train", [TEXTS[n::5] for n in range(5)])
    write(folder, "validation", [TEXTS[:3], TEXTS[3:5]])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def tokenize(corpus: Path, tokenizer_folder: Path, make_context, make_manifest, monkeypatch) -> Any:
    def size(texts: list[str]) -> dict[str, int]:
        return {"documents": len(texts), "bytes": sum(len(t.encode()) for t in texts)}

    splits = {"train": {**size(TEXTS), "files": 5}, "validation": {**size(TEXTS[:5]), "files": 2}}
    given = {
        "corpus": Artifact(corpus, make_manifest("c", "corpus", {"type": "corpus", "splits": splits})),
        "tokenizer": Artifact(
            tokenizer_folder,
            make_manifest("t", "tokenizer", {"type": "tokenizer", "vocab_size": 500, "bytes_per_token": 2.0}),
        ),
    }

    def run(context: Any = None, **executor: Any) -> tuple[Any, Path]:
        context = context or make_context()
        settings = STAGE.Settings(shard_tokens=3000, executor=executor)
        return STAGE.run(settings, given, context), context.folder

    monkeypatch.setattr(module, "TIKTOKEN_WORTH_BYTES", 1000)
    monkeypatch.setattr(encode_load, "POOL_WORTH_BYTES", 0)
    return run


def test_any_number_of_workers_gives_the_same_artifact(tokenize, tokenizer_folder: Path) -> None:
    outcome, one = tokenize(kind="inline")
    assert outcome.facts["encoded_by"] == "tiktoken"
    for workers in (2, 3):
        other, folder = tokenize(workers=workers)
        assert other == outcome
        assert contents(folder) == contents(one)
    tokenizer = Tokenizer.load(tokenizer_folder)
    shards = TokenShards.open(one, "train")
    wanted = [tokenizer.encode(text, bos=True, eos=True) for n in range(5) for text in TEXTS[n::5]]
    assert [shards.document(n).tolist() for n in range(shards.n_documents)] == wanted
    names = sorted(path.name for path in one.glob("tokens-train-*.bin"))
    assert names == [f"tokens-train-{n:05d}.bin" for n in range(len(names))]
    assert len(names) > 5


def test_little_text_is_encoded_by_tokenizers_to_the_same_bytes(tokenize, monkeypatch) -> None:
    _, fast = tokenize(kind="inline")
    monkeypatch.setattr(module, "TIKTOKEN_WORTH_BYTES", 1 << 40)
    outcome, slow = tokenize(workers=2)
    assert outcome.facts["encoded_by"] == "tokenizers"
    assert contents(slow) == contents(fast)


def test_the_executor_is_not_in_the_key() -> None:
    from arriero.recipe.keys import stage_key

    keys = {
        stage_key(STAGE, STAGE.Settings(executor=e), {}) for e in ({}, {"workers": 3}, {"kind": "inline"})
    }
    assert len(keys) == 1


def test_encoders_are_chosen_by_what_pays(corpus: Path, tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    assert choose_encoder(Corpus(corpus), tokenizer, 1000).library == "tokenizers"
    assert choose_encoder(Corpus(corpus), tokenizer, 1 << 30).library == "tiktoken"


@pytest.mark.slow
def test_killed_and_taken_up_gives_the_same_shards(
    corpus: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Kill -9 of the whole run at several moments, then to the end; against one run in this process."""
    states = {name: tmp_path / name for name in ("killed", "whole")}
    for state in states.values():
        state.mkdir()
    code = """
import sys
from pathlib import Path
from arriero.data.corpus import Corpus
from arriero.data.encode import encode_file, encode_tasks, is_encoded
from arriero.data.execute import ExecutorSettings, make_executor
corpus, tokenizer, state = map(Path, sys.argv[1:])
tasks = encode_tasks(Corpus(corpus), tokenizer, state, 700, True)
make_executor(ExecutorSettings(workers=2)).run(encode_file, tasks, done=is_encoded)
"""
    command = [sys.executable, "-c", code, str(corpus), str(tokenizer_folder), str(states["killed"])]
    for shards in (0, 1, 12, 25):
        process = subprocess.Popen(command)
        end = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < end:
            if len(list(states["killed"].glob("*.bin"))) >= shards and shards:
                break
            if not shards and time.monotonic() > end - 29.6:
                break
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    tasks = encode_tasks(Corpus(corpus), tokenizer_folder, states["whole"], 700, fast=False)
    make_executor(ExecutorSettings(kind="inline")).run(encode_file, tasks, done=is_encoded)
    found, wanted = (
        {k: v for k, v in contents(state).items() if "partial" not in k} for state in states.values()
    )
    assert found == wanted
    assert sum(len(encoded(task).shards) for task in tasks) > 25
