"""Counting and fitting an n-gram in bounded memory: seconds, tokens a second and the peak of resident memory.

    python benchmarks/ngram.py TEXT [--tokenizer FILE] [--vocab-size 32000] [--order 5] [--max-memory 512]
    python benchmarks/ngram.py TOKENS [--order 5] [--max-memory 512]

TEXT is a text file, plain or .gz, or a folder of them; a document is what stands between empty lines. It is encoded with
the tokenizer, or with a byte-level BPE trained on its beginning, into a scratch file that is mapped; neither counts. TOKENS
is a folder that the stage `tokenize` made; its training split is counted. The model is written to a folder that is
removed afterwards. A memory limit of 0 keeps everything in memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from texts import documents

TRAINED_ON = 20_000
"""Documents that the tokenizer is trained on, where none is given."""
BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """Documents as ids, mapped: nothing is read until it is counted."""

    ids: Any
    starts: Any
    vocab_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        for start, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield np.asarray(self.ids[start:end])


@dataclass(frozen=True)
class Shards:
    """The training split of a tokens artifact."""

    split: Any
    vocab_size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.split.document(number) for number in range(self.split.n_documents))


def encode(options: argparse.Namespace, scratch: Path) -> Encoded:
    """The documents of a text, as ids in a file of ``scratch``."""
    from arriero.tokenization.bpe import train_bpe
    from arriero.tokenization.load import load_tokenizer

    if options.tokenizer is None:
        first = list(islice(documents(options.source), TRAINED_ON))
        tokenizer = train_bpe(first, options.vocab_size, "llama3", 2)
    else:
        tokenizer = load_tokenizer(options.tokenizer)
    starts, texts = [0], documents(options.source)
    with (scratch / "ids.bin").open("wb") as file:
        while batch := list(islice(texts, BATCH)):
            for ids in tokenizer.encode_batch(batch):
                file.write(np.array(ids, dtype="<u4").tobytes())
                starts.append(starts[-1] + len(ids))
    if starts[-1] == 0:
        raise SystemExit(f"{options.source} holds no text")
    return Encoded(np.memmap(scratch / "ids.bin", "<u4", mode="r"), np.array(starts), tokenizer.vocab_size)


def shards(folder: Path) -> Shards:
    """What the stage `tokenize` made."""
    from arriero.data.shards import TokenShards, read_meta

    return Shards(TokenShards.open(folder, "train"), read_meta(folder).vocab_size)


def resident(line: str) -> int:
    """Bytes that /proc/self/status gives in that line."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(found for found in lines if found.startswith(line)).split()[1])


def measure(source: Encoded | Shards, options: argparse.Namespace, scratch: Path) -> None:
    """Fit the model, and print what it took."""
    from arriero.cost.allocator import return_freed_memory
    from arriero.models.ngram import fit_columns
    from arriero.models.ngram_columns import Workspace
    from arriero.models.ngram_smoothing import DEFAULT

    scratch.mkdir()
    limit = options.max_memory * 1_000_000
    workspace = Workspace(scratch, limit) if limit else Workspace()
    return_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")
    before, started = resident("VmRSS"), time.perf_counter()
    fitted = fit_columns(source, options.order, source.vocab_size, DEFAULT, None, (), workspace)
    taken, peak = time.perf_counter() - started, resident("VmHWM")
    kept = sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file())
    tokens = fitted.about["tokens"]
    print(
        f"{tokens:,} tokens, vocabulary {source.vocab_size:,}, order {options.order}, "
        f"limit {options.max_memory} MB, {os.cpu_count()} cores"
    )
    print(
        f"{taken:.1f} s, {tokens / taken:,.0f} tokens/s, peak {peak / 1e6:.0f} MB ({before / 1e6:.0f} MB before)"
    )
    print(f"{fitted.parameter_counts()}, scratch files {kept / 1e9:.2f} GB")
    print(f"discounts {fitted.about.get('discounts')}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="TEXT|TOKENS")
    parser.add_argument("--tokenizer", type=Path, help="for a text: any format that Arriero reads")
    parser.add_argument(
        "--vocab-size", type=int, default=32000, help="of the tokenizer trained where none is given"
    )
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--max-memory", type=int, default=512, help="MB beyond the process; 0: no limit")
    options = parser.parse_args()
    from arriero.data.shards import META_FILE
    from arriero.errors import ArrieroError

    try:
        with tempfile.TemporaryDirectory() as scratch:
            made = (options.source / META_FILE).is_file()
            source = shards(options.source) if made else encode(options, Path(scratch))
            measure(source, options, Path(scratch) / "counts")
    except ArrieroError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
