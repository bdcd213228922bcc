"""How fast the facts of a text are counted, per CPU second of one core: the compiled kernel, Python, other MinHashes.

    python benchmarks/text_facts.py FOLDER [--megabytes 8] [--document 6000]

FOLDER holds text (.txt, .txt.gz); neighbouring paragraphs are joined to documents of about ``--document`` characters.
datasketch and rensa are measured where they are installed: the whole way from text to signature, with shingles of five
words between white space, as their documentation makes them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from texts import documents

from arriero.data.facts import (
    FactsSettings,
    lines,
    measure,
    normalised_text,
    shingle_hashes,
    signature,
    words,
)
from arriero.native import library

REPEATS = 3
FALLBACK_BYTES = 300_000
"""Python is measured on this much."""


def joined(path: Path, size: int) -> Iterator[str]:
    """Documents of at least ``size`` characters, the last one perhaps shorter."""
    parts: list[str] = []
    for part in documents(path):
        parts.append(part)
        if sum(map(len, parts)) >= size:
            yield "\n\n".join(parts)
            parts = []
    if parts:
        yield "\n\n".join(parts)


def first_bytes(texts: list[str], most: int) -> list[str]:
    """As many of the texts as there are in ``most`` bytes, at least one."""
    taken, size = [], 0
    for text in texts:
        taken.append(text)
        size += len(text.encode())
        if size >= most:
            break
    return taken


def rate(work: Callable[[str], object], texts: list[str], repeats: int = REPEATS) -> float:
    """Megabytes of UTF-8 a CPU second, the best of some runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        for text in texts:
            work(text)
        best = min(best, time.process_time() - start)
    return sum(len(text.encode()) for text in texts) / best / 1e6


def ours() -> dict[str, Callable[[str], object]]:
    """What is measured of Arriero."""
    space = FactsSettings(words="space")
    return {
        "all facts, signature, digest": measure,
        "the same, words by white space": lambda text: measure(text, space),
        "signature alone, from text": signature,
        "shingle hashes, sorted": shingle_hashes,
        "normalised text": normalised_text,
        "lines with their hashes": lines,
        "list of words": words,
    }


def others() -> dict[str, Callable[[str], object]]:
    """Signatures of 112 hashes by other packages, where they are installed."""

    def shingles(text: str) -> list[str]:
        parts = text.split()
        return [" ".join(parts[i : i + 5]) for i in range(len(parts) - 4)]

    found: dict[str, Callable[[str], object]] = {}
    try:
        from rensa import RMinHash

        def by_rensa(text: str) -> object:
            minhash = RMinHash(112, 1)
            minhash.update(shingles(text))
            return minhash.digest()

        found["rensa R-MinHash, from text"] = by_rensa
    except ImportError:
        pass
    try:
        from datasketch import MinHash

        def by_datasketch(text: str) -> object:
            minhash = MinHash(112)
            minhash.update_batch([shingle.encode() for shingle in shingles(text)])
            return minhash.digest()

        found["datasketch, batch update, from text"] = by_datasketch
    except ImportError:
        pass
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=float, default=8, help="most text to measure with")
    parser.add_argument("--document", type=int, default=6000, help="characters of a document, about")
    arguments = parser.parse_args()
    texts = first_bytes(list(joined(arguments.folder, arguments.document)), int(arguments.megabytes * 1e6))
    print(
        f"{len(texts)} documents, {sum(len(text.encode()) for text in texts) / 1e6:.2f} MB; {library.describe()}"
    )
    for name, work in {**ours(), **others()}.items():
        print(f"{name:40s} {rate(work, texts):8.1f} MB/s")
    os.environ[library.SWITCH] = "0"
    few = first_bytes(texts, FALLBACK_BYTES)
    for name in ("all facts, signature, digest", "signature alone, from text"):
        print(f"{'without the library: ' + name:40s} {rate(ours()[name], few, 1):8.2f} MB/s")


if __name__ == "__main__":
    main()
