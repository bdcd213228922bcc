"""Counting and fitting an n-gram in bounded memory: seconds, tokens a second and the peak of resident memory.

    python benchmarks/ngram.py TOKENS.npy ENDS.npy [--order 5] [--max-memory 512] [--vocab-size 32000]

TOKENS holds the ids of all documents in a row, ENDS where each of them ends; both are mapped, not read. The model is
written to a folder that is removed afterwards. A memory limit of 0 keeps everything in memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def resident(line: str) -> int:
    """Bytes that /proc/self/status gives in that line."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(found for found in lines if found.startswith(line)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tokens", type=Path)
    parser.add_argument("ends", type=Path)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--max-memory", type=int, default=512, help="MB beyond the process; 0: no limit")
    parser.add_argument("--vocab-size", type=int, default=32000)
    options = parser.parse_args()
    from arriero.models.ngram import fit_columns
    from arriero.models.ngram_columns import Workspace
    from arriero.models.ngram_smoothing import DEFAULT

    ids, ends = np.load(options.tokens, mmap_mode="r"), np.load(options.ends)

    def documents() -> Iterator[np.ndarray]:
        start = 0
        for end in ends:
            yield np.asarray(ids[start:end])
            start = int(end)

    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as scratch:
        limit = options.max_memory * 1_000_000
        workspace = Workspace(Path(scratch), limit) if limit else Workspace()
        started = time.perf_counter()
        fitted = fit_columns(documents(), options.order, options.vocab_size, DEFAULT, None, (), workspace)
        taken = time.perf_counter() - started
        kept = sum(file.stat().st_size for file in Path(scratch).rglob("*") if file.is_file())
    peak = resident("VmHWM")
    print(
        f"{len(ids):,} tokens, order {options.order}, limit {options.max_memory} MB, {os.cpu_count()} cores"
    )
    print(
        f"{taken:.1f} s, {len(ids) / taken:,.0f} tokens/s, peak {peak / 1e6:.0f} MB ({before / 1e6:.0f} MB before)"
    )
    print(f"discounts {fitted.about.get('discounts')}, scratch files {kept / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
