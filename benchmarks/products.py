"""float32 products by torch's BLAS and by oneDNN: what `arriero.products` chooses between, and why.

    python benchmarks/products.py [--threads 2] [--rounds 7]

For each shape the three products of a linear layer: forward (x W^T), the input's gradient (dy W) and the weight's
(dy^T x). Printed: GFLOP/s of either and the ratio oneDNN / BLAS; the fastest of the rounds, which take turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

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


def both_ways(
    x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """The three products of a linear layer, by BLAS and by oneDNN."""
    return {
        "forward": (lambda: x @ w.t(), lambda: onednn(x, w)),
        "input gradient": (lambda: dy @ w, lambda: onednn(dy, w.t())),
        "weight gradient": (lambda: dy.t() @ x, lambda: onednn(dy.t(), x.t())),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    from arriero.cost.allocator import keep_freed_memory
    from arriero.products import float32_library

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads; chosen on this processor: {float32_library()}")
    print(f"{'tokens x in x out':>20} {'':<16} {'BLAS':>6} {'oneDNN':>6}  ratio")
    for m, k, n in SHAPES:
        x, w, dy = torch.randn(m, k), torch.randn(n, k), torch.randn(m, n)
        pairs = both_ways(x, w, dy)
        for name, both in pairs.items():
            for work in both:
                work()
            best = [
                min(times)
                for times in zip(*([seconds(w) for w in both] for _ in range(options.rounds)), strict=True)
            ]
            rates = [2e-9 * m * k * n / t for t in best]
            shape = f"{m} x {k} x {n}"
            print(f"{shape:>20} {name:<16} {rates[0]:6.0f} {rates[1]:6.0f}  {rates[1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()
