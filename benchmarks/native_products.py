"""Native products beside torch's own operations, by turns: what `arriero.native` is for.

    python benchmarks/native_products.py [--threads 1] [--rounds 7] [--size 4096] [--rows 1 8 64 512] [--level avx2]

For each form of the weight and each number of rows: milliseconds (the fastest of the rounds, processor time of the
process when it has one thread, else clock time), GB/s of weights and GFLOP/s. Several copies of the weight take turns,
so that it comes from memory as in a model and not from the cache. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from arriero.native import library
from arriero.native.linear import linear
from arriero.native.matrices import NativeMatrix, dense, low_bit

COPIES_OVER = 256 * 1024 * 1024
"""Bytes that the copies of a weight have together: more than a cache holds."""
Product = Callable[[Tensor], Tensor]


def native_forms(size: int) -> dict[str, Callable[[], tuple[Product, int]]]:
    """Makers of a native product and the bytes that it reads, by name."""

    def made(matrix: NativeMatrix) -> tuple[Product, int]:
        return (lambda x: linear(x, matrix)), matrix.nbytes

    def low(bits: int, group: int) -> Callable[[], tuple[Product, int]]:
        def make() -> tuple[Product, int]:
            half = 1 << (bits - 1)
            codes = torch.randint(-half, half, (size, size), dtype=torch.int8)
            return made(low_bit(codes, torch.rand(size, size // group).bfloat16(), bits))

        return make

    return {
        "native int4, groups of 32": low(4, 32),
        "native int4, groups of 128": low(4, 128),
        "native int8, groups of 32": low(8, 32),
        "native int8, whole rows": low(8, size),
        "native bf16": lambda: made(dense(torch.randn(size, size).bfloat16())),
        "native fp32": lambda: made(dense(torch.randn(size, size))),
    }


def torch_forms(size: int) -> dict[str, Callable[[], tuple[Product, int]]]:
    """The same of torch: dense products, and those low-bit ones that this build of torch has."""

    def plain(dtype: torch.dtype) -> Callable[[], tuple[Product, int]]:
        def make() -> tuple[Product, int]:
            weight = torch.randn(size, size).to(dtype)
            return (lambda x: torch.nn.functional.linear(x.to(dtype), weight)), weight.nbytes

        return make

    def int8pack() -> tuple[Product, int]:
        codes = torch.randint(-128, 128, (size, size), dtype=torch.int8)
        scales = torch.rand(size).bfloat16()
        product = torch.ops.aten._weight_int8pack_mm
        return (lambda x: product(x.bfloat16(), codes, scales)), codes.nbytes

    def int4pack() -> tuple[Product, int]:
        codes = torch.randint(0, 16, (size, size), dtype=torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        scales = torch.rand(size // 32, size, 2).bfloat16()
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
        return (lambda x: product(x.bfloat16(), packed, 32, scales)), packed.nbytes + scales.nbytes

    return {
        "torch int4pack, groups of 32": int4pack,
        "torch int8pack, whole rows": int8pack,
        "torch bf16": plain(torch.bfloat16),
        "torch fp32": plain(torch.float32),
    }


def copies_of(make: Callable[[], tuple[Product, int]]) -> tuple[list[Product], int]:
    """Enough copies that a round does not find its weight in the cache."""
    first, size = make()
    return [first, *(make()[0] for _ in range(max(1, COPIES_OVER // size)))], size


def seconds(products: list[Product], x: Tensor, clock: Callable[[], float]) -> float:
    """Mean time of one product, each copy in its turn."""
    started = clock()
    for product in products:
        product(x)
    return (clock() - started) / len(products)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--level", choices=library.LEVELS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.level:
        library.set_level(options.level)
    print(library.describe(), f"torch {torch.__version__}, {options.threads} threads")
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    forms = native_forms(options.size) | torch_forms(options.size)
    made = {name: copies_of(make) for name, make in forms.items()}
    found: dict[str, dict[str, float]] = {}
    for rows in options.rows:
        x = torch.randn(rows, options.size)
        fastest = dict.fromkeys(made, float("inf"))
        for _ in range(options.rounds):
            for name, (products, _size) in made.items():
                some = products if rows <= 16 else products[:2]
                fastest[name] = min(fastest[name], seconds(some, x, clock))
        for name, (_products, size) in made.items():
            time_of_one, flops = fastest[name], 2 * rows * options.size**2
            gbs, gflops = size / time_of_one / 1e9, flops / time_of_one / 1e9
            print(
                f"{rows:4} rows  {name:30} {time_of_one * 1e3:9.3f} ms {gbs:7.1f} GB/s {gflops:8.0f} GFLOP/s"
            )
            found.setdefault(name, {})[str(rows)] = time_of_one
    print(
        json.dumps(
            {"size": options.size, "threads": options.threads, "level": library.level(), "seconds": found}
        )
    )


if __name__ == "__main__":
    main()
