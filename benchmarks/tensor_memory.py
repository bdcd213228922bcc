"""Peak memory and speed of training with tensors in a range of their own and in the C library's heap, by turns in one run.

    python benchmarks/tensor_memory.py [--only "34M bf16 lora full" ...] [--steps 3] [--rounds 2]

The runs are those of benchmarks/cost.py. Three ways: the C library as it is when a process starts; without its cache of
small blocks, as Arriero's commands start (``arriero.process``); and the range (``arriero.native.tensor_memory``), which is
what training uses where torch's headers and a C++ compiler are.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from dataclasses import replace

from arriero.native.tensor_memory import SWITCH
from arriero.process import NO_SMALL_CACHE, TUNABLES
from cost import SETUPS, Setup, child

WAYS = {
    "heap": {SWITCH: "0", TUNABLES: "glibc.malloc.tcache_count=7"},
    "heap, no small cache": {SWITCH: "0", TUNABLES: NO_SMALL_CACHE},
    "range": {SWITCH: "1", TUNABLES: NO_SMALL_CACHE},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], choices=[setup.name for setup in SETUPS])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(f"{'':20}" + "".join(f"{way:>28}" for way in WAYS) + "   range / heap, no small cache")
    for setup in SETUPS:
        if not options.only or setup.name in options.only:
            compare(replace(setup, steps=options.steps), options.rounds)


def compare(setup: Setup, rounds: int) -> None:
    """One line: seconds and peak MiB of each way, and the last's over the second's."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for way, switches in WAYS.items():
            os.environ.update(switches)
            run = child("measure", setup)
            found[way].append((run["seconds"], run["peak_memory"] / 2**20))
    means = [tuple(statistics.mean(column) for column in zip(*found[way], strict=True)) for way in WAYS]
    ratios = [ours / theirs for ours, theirs in zip(means[-1], means[-2], strict=True)]
    print(
        f"{setup.name:20}" + "".join(f"{seconds:14.1f} s {memory:8.0f} MiB" for seconds, memory in means)
        + f"   time {ratios[0]:.2f}, memory {ratios[1]:.2f}",
        flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
