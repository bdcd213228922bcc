"""What LoRA adapters cost in decoding: steps of 1 and 8 sequences without, with one and with eight adapters.

    python benchmarks/adapters.py [--threads 2] [--rank 16] [--bits 4] [--steps 30] [--runner native]

The model has SmolLM2-135M's shape and random weights, int4 or int8 in groups of 32 (or 0: float32); the adapters are on
every linear layer. The kinds of step take turns, so that whatever else the machine does falls on all of them alike.
Printed: milliseconds of a step, the median of the steps, and the share that the adapters add; one JSON line.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from arriero.compression.rounding import quantize_model
from arriero.inference.adapters import AdapterStore
from arriero.inference.kv_pool import BLOCK, CacheShape, KVPool
from arriero.inference.rows import Rows
from arriero.inference.runners import make_runner
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import WeightScheme
from arriero.tuning.lora import adapters, apply_lora, save_adapter

SHAPE = DecoderConfig(
    vocab_size=49152, d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, d_ff=1536, context_length=2048,
    tie_embeddings=True,
)  # fmt: skip
KINDS: dict[str, list[str | None]] = {
    "1 sequence, no adapter": [None],
    "1 sequence, 1 adapter": ["a0"],
    "8 sequences, no adapter": [None] * 8,
    "8 sequences, 1 adapter": ["a0"] * 8,
    "8 sequences, 8 adapters": [f"a{i}" for i in range(8)],
}


def adapter(model: Decoder, rank: int, folder: Path) -> Path:
    """An adapter with random values on every linear layer."""
    adapted = copy.deepcopy(model)
    apply_lora(adapted, rank, 2 * rank, 0.0, "all-linear", seed=1)
    for layer in adapters(adapted).values():
        torch.nn.init.normal_(layer.lora_B, 0, 0.01)
    save_adapter(adapted, folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--bits", type=int, default=4, choices=(0, 4, 8))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--runner", default="auto", choices=("auto", "native", "torch"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = Decoder(SHAPE).eval()
    model.init_weights(0)
    with tempfile.TemporaryDirectory() as folder:
        place = adapter(model, options.rank, Path(folder))
        if options.bits:
            quantize_model(model, WeightScheme(options.bits, 32), torch.float32)
        store = AdapterStore(model)
        for i in range(8):
            store.load(f"a{i}", place)
    per_sequence = -(-options.steps // BLOCK) + 1
    pool = KVPool(CacheShape(SHAPE.n_layers, SHAPE.n_kv_heads, SHAPE.head_dim), 8 * per_sequence * BLOCK)
    runner = make_runner(options.runner, model, pool, store)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for step in range(options.steps + 1):
        for kind, names in KINDS.items():
            rows = Rows()
            for i, name in enumerate(names):
                blocks = list(range(i * per_sequence, (i + 1) * per_sequence))
                rows.add([5 + i], step, blocks, [0], name)
            started = time.perf_counter()
            runner.run(rows)
            times[kind].append(time.perf_counter() - started)
    found = {
        kind: 1000 * statistics.median(taken[1:]) for kind, taken in times.items()
    }  # the first one warms up
    for kind, taken in found.items():
        without = found[kind.partition(",")[0] + ", no adapter"]
        print(f"{kind:26} {taken:7.2f} ms a step, {100 * (taken / without - 1):+5.0f} %")
    print(
        json.dumps({"runner": type(runner).__name__, "bits": options.bits, "rank": options.rank, "ms": found})
    )


if __name__ == "__main__":
    main()
