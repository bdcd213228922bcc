"""Training's attention and rotary embedding in bf16: the native library's and torch's operations, by turns in one process.

    python benchmarks/training_attention.py [--rows 4] [--length 256] [--heads 9] [--kv-heads 3] [--head-dim 64]
                                            [--layers 30] [--rounds 6] [--threads 1]

Printed: CPU milliseconds (of all threads) that so many layers take, forward and backward, the best of the rounds. The
sizes are SmolLM-135M's by default. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time

import torch

from arriero.cost.allocator import keep_freed_memory
from arriero.models.layers.attention import attend
from arriero.models.layers.rotary import Rotary, rotate
from arriero.native import attention as native
from arriero.native.library import SWITCH

WAYS = {"torch": "0", "native": "1"}
PARTS = ("rotary", "forward", "backward")


def one_layer(options: argparse.Namespace, tables: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, ...]:
    """CPU seconds of the rotation in both directions, of attention, and of its backward pass."""
    b, t, dim = options.rows, options.length, options.head_dim
    counts = (options.heads, options.kv_heads, options.kv_heads)
    flat = [torch.randn(b, t, n * dim).bfloat16().requires_grad_() for n in counts]
    gradient = torch.randn(b, t, options.heads * dim).bfloat16()
    q, k, v = (x.view(b, t, n, dim).transpose(1, 2) for x, n in zip(flat, counts, strict=True))
    clock = [time.process_time()]
    turned = [rotate(x, *tables) for x in (q, k)]
    clock.append(time.process_time())
    inputs = [x.detach().requires_grad_() for x in (*turned, v)]
    clock.append(time.process_time())
    out = attend(*inputs, None).transpose(1, 2).flatten(2)
    clock.append(time.process_time())
    of_q, of_k, _ = torch.autograd.grad(out, inputs, gradient)
    clock.append(time.process_time())
    torch.autograd.grad(turned, flat[:2], [of_q, of_k])
    clock.append(time.process_time())
    steps = [stop - start for start, stop in itertools.pairwise(clock)]
    return steps[0] + steps[4], steps[2], steps[3]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = {
        "rows": 4, "length": 256, "heads": 9, "kv-heads": 3, "head-dim": 64, "layers": 30, "rounds": 6, "threads": 1,
    }  # fmt: skip
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if not native.available():
        print("the native attention is not there (it needs AVX512_BF16): both ways are torch's")
    tables = Rotary(options.head_dim, options.length, 10000.0)(options.length, None)
    best = {way: [float("inf")] * len(PARTS) for way in WAYS}
    for _ in range(options.rounds):
        for way, switch in WAYS.items():
            os.environ[SWITCH] = switch
            layers = [one_layer(options, tables) for _ in range(options.layers)]
            best[way] = [
                min(old, 1e3 * sum(x)) for old, x in zip(best[way], zip(*layers, strict=True), strict=True)
            ]
    print("CPU ms    " + "".join(f"{part:>10}" for part in PARTS))
    for way, found in best.items():
        print(f"{way:<10}" + "".join(f"{ms:10.1f}" for ms in found))
    print(json.dumps({way: dict(zip(PARTS, found, strict=True)) for way, found in best.items()}))


if __name__ == "__main__":
    main()
