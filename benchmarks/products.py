"""Products of linear layers on a processor: what `arriero.products` chooses between, and why.

    python benchmarks/products.py [--dtype float32|bfloat16] [--threads 2] [--rounds 7]

For each shape the three products of a linear layer: forward (x W^T), the input's gradient (dy W) and the weight's
(dy^T x). float32: torch's BLAS and oneDNN. bfloat16: torch as it comes and `arriero.products`, which are the same where
torch has fast kernels for it (AVX-512). Printed: GFLOP/s of either and the ratio of the second to the first; the fastest of
the rounds, which take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from arriero import products
from arriero.cost.allocator import keep_freed_memory

SHAPES = (
    (1024, 128, 344),
    (1024, 384, 384),
    (1024, 384, 1024),
    (1024, 576, 1536),
    (512, 384, 24576),
    (1, 576, 1536),
)
"""(tokens, inputs, outputs)."""


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def onednn(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return result


def ours(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return products.linear(x, weight)


SIDES: dict[str, tuple[str, str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "float32": ("BLAS", "oneDNN", onednn),
    "bfloat16": ("torch", "ours", ours),
}


def both_ways(
    x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor, other: Callable[..., object]
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """The three products of a linear layer, as torch does them and the ``other`` way."""
    return {
        "forward": (lambda: x @ w.t(), lambda: other(x, w)),
        "input gradient": (lambda: dy @ w, lambda: other(dy, w.t())),
        "weight gradient": (lambda: dy.t() @ x, lambda: other(dy.t(), x.t())),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtype", choices=SIDES, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    dtype, (first, second, other) = getattr(torch, options.dtype), SIDES[options.dtype]
    print(f"{options.threads} threads; chosen on this processor for float32: {products.float32_library()}")
    print(f"{'tokens x in x out':>20} {'':<16} {first:>6} {second:>6}  ratio")
    for m, k, n in SHAPES:
        x, w, dy = (torch.randn(shape).to(dtype) for shape in ((m, k), (n, k), (m, n)))
        pairs = both_ways(x, w, dy, other)
        for name, both in pairs.items():
            for work in both:
                work()
            best = [
                min(times)
                for times in zip(*([seconds(w) for w in both] for _ in range(options.rounds)), strict=True)
            ]
            rates = [2e-9 * m * k * n / t for t in best]
            shape = f"{m} x {k} x {n}"
            print(f"{shape:>20} {name:<16} {rates[0]:6.1f} {rates[1]:6.1f}  {rates[1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()
