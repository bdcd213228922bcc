"""Peak memory and speed of training with the C library's cache of small blocks, and without it, by turns in one run.

    python benchmarks/splinters.py [--sizes 33.8M] [--precision fp32 bf16] [--rounds 2]

Arriero's training commands start without that cache (``arriero.process.start_again_without_small_cache``): what
alignment leaves beside each tensor goes into it, where it never joins the freed tensor again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from training_contenders import Job

from arriero.process import NO_SMALL_CACHE
from training import LENGTH, SIZES, STEPS, run_job, write_model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["33.8M"], choices=list(SIZES))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"{'':16}{'with the cache':>28}{'without':>28}   without / with")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_model(size, Path(folder))
            for precision in options.precision:
                job = Job(
                    contender="arriero", task="lm", folder=folder, precision=precision, rows=SIZES[size]["rows"],
                    length=LENGTH, steps=STEPS[size], vocab_size=SIZES[size]["vocab_size"], threads=options.threads,
                )  # fmt: skip
                compare(f"{size} {precision}", job, options.rounds)


def compare(name: str, job: Job, rounds: int) -> None:
    """One line: tokens a second and peak MiB of both, and the ratios."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for tunables in ("glibc.malloc.tcache_count=7", NO_SMALL_CACHE):
            result = run_job(job, tunables)
            if result:
                speed = job.rows * job.length / statistics.median(result["seconds"])
                found[tunables].append((speed, result["peak_mib"]))
    means = [tuple(statistics.mean(column) for column in zip(*rows, strict=True)) for rows in found.values()]
    (speed, memory), (speed_without, memory_without) = means
    print(
        f"{name:16}{speed:9.0f} tokens/s {memory:6.0f} MiB{speed_without:9.0f} tokens/s {memory_without:6.0f} MiB"
        f"   speed {speed_without / speed:.3f}, memory {memory_without / memory:.3f}"
    )


if __name__ == "__main__":
    main()
