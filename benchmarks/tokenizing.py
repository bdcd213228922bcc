"""Tokenizing in one run: Arriero's encoder against tiktoken and `tokenizers`, and both trainers; MB per CPU second.

    python benchmarks/tokenizing.py TEXT [--vocab-size 16000] [--repeat 3] [--pattern llama3]

TEXT is a text file, plain or .gz, or a folder of them; a document is what stands between empty lines, joined to 4 kB or
more. Two tokenizers are trained on it, one by each trainer; the second one's ids are then made in four ways on the same
documents: by this repository's encoder alone, by it and on to token shards on the disk (as the stage `tokenize` does),
by tiktoken with the same ranks, and by the `tokenizers` library in batches. CPU seconds count all threads; the best of
the repetitions is taken, and the ways take turns. The ids are compared.
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from texts import documents

BATCH_BYTES = 1 << 20
LEAST_CHARACTERS = 4096


def joined(path: Path) -> list[str]:
    """Documents of the size of a web page."""
    found, parts, size = [], [], 0
    for part in documents(path):
        parts.append(part)
        size += len(part)
        if size >= LEAST_CHARACTERS:
            found.append("\n\n".join(parts))
            parts, size = [], 0
    return [*found, "\n\n".join(parts)] if parts else found


def batches(texts: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size >= BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(text)
        size += len(text)
    return found


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads of this process, and what the work gave."""
    started = time.process_time()
    value = work()
    return time.process_time() - started, value


def to_shards(texts: list[str], tokenizer: Any, encoder: Any) -> int:
    """Encode and write shards, as the stage does; gives the number of tokens."""
    from arriero.data.documents import Document
    from arriero.data.shard_writer import ShardWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = ShardWriter(Path(folder), "train", tokenizer, 1 << 24, encoder)
        made = (Document(str(n), text, "text") for n, text in enumerate(texts))
        return writer.write(made, lambda n_bytes: None).tokens


def train(texts: list[str], options: argparse.Namespace, n_bytes: int) -> Any:
    """Both trainers; gives the fast one's tokenizer."""
    from arriero.tokenization.bpe import train_bpe, train_bpe_fast

    made = {}
    for name, learn in (
        ("exact (tokenizers)", lambda: train_bpe(texts, options.vocab_size, options.pattern, 2)),
        ("fast (rustbpe)", lambda: train_bpe_fast(texts, options.vocab_size, options.pattern)),
    ):
        seconds, made[name] = cpu_seconds(learn)
        tokens = sum(map(len, made[name].encode_batch(texts)))
        print(f"train  {name:28} {n_bytes / seconds / 1e6:7.2f} MB/CPU-s {tokens:12,} tokens")
    return made["fast (rustbpe)"]


def encode(texts: list[str], tokenizer: Any, options: argparse.Namespace, n_bytes: int) -> None:
    """All ways in turns, and whether their ids are equal."""
    from arriero.tokenization.fast import make_encoder, proved_ranks, split_pattern

    start_seconds, encoder = cpu_seconds(lambda: make_encoder(tokenizer, texts))
    print(f"start  arriero: {encoder.library}, proof and check took {start_seconds:.2f} CPU-s")
    ranks, ids = proved_ranks(tokenizer.definition)
    tiktoken = importlib.import_module("tiktoken").Encoding(
        "same", pat_str=split_pattern(tokenizer.definition), mergeable_ranks=ranks, special_tokens={}
    )
    groups = batches(texts)
    ways: dict[str, Callable[[], Any]] = {
        "arriero": lambda: [found for group in groups for found in encoder.encode_batch(group)],
        "arriero, to shards": lambda: to_shards(texts, tokenizer, encoder),
        "tiktoken encode_ordinary": lambda: [tiktoken.encode_ordinary(text) for text in texts],
        "tokenizers in batches": lambda: [ids for group in groups for ids in tokenizer.encode_batch(group)],
    }
    best: dict[str, float] = {}
    results: dict[str, Any] = {}
    for _ in range(options.repeat):
        for name, way in ways.items():
            seconds, results[name] = cpu_seconds(way)
            best[name] = min(best.get(name, seconds), seconds)
    reference = results["tokenizers in batches"]
    for name, seconds in best.items():
        slower = best["tiktoken encode_ordinary"] / seconds
        print(f"encode {name:28} {n_bytes / seconds / 1e6:7.2f} MB/CPU-s {slower:8.2f} x tiktoken")
    assert results["arriero"] == reference, "the ids differ"
    by_rank = results["tiktoken encode_ordinary"]
    assert (by_rank if ids is None else [[ids[rank] for rank in found] for found in by_rank]) == reference
    assert results["arriero, to shards"] == sum(map(len, reference)) + 2 * len(texts)
    print("the ids of all ways are equal")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("--vocab-size", type=int, default=16_000)
    parser.add_argument("--pattern", default="llama3", choices=["llama3", "gpt2"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    texts = joined(options.text)
    n_bytes = sum(len(text.encode()) for text in texts)
    print(
        f"{len(texts):,} documents, {n_bytes / 1e6:.1f} MB, vocabulary {options.vocab_size:,}, {options.pattern}"
    )
    encode(texts, train(texts, options, n_bytes), options, n_bytes)


if __name__ == "__main__":
    main()
