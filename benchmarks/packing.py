"""What packing conversations into shared rows is worth: tokens a CPU second of training steps, padded and packed.

    python benchmarks/packing.py [--context 512] [--longest 512] [--batch 16] [--precision fp32]

One Llama shape, one thread, the same conversations (lengths are log-normal: few are long) in the same order, the two ways
in turn. CPU seconds need no quiet machine. ``real`` is the share of the tokens worked out that is not padding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch

from arriero.models.checkpoint import build_model
from arriero.models.decoder_config import DecoderConfig
from arriero.training.micro_batch import TOKENS_AT_ONCE
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.step import accumulate

SHAPE: dict[str, Any] = {
    "vocab_size": 4096, "d_model": 256, "n_layers": 4, "n_heads": 8, "n_kv_heads": 4, "head_dim": 32, "d_ff": 704,
}  # fmt: skip


def conversations(count: int, longest: int) -> list[Row]:
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(0.45 * longest), 0.5, count), 24, longest).astype(int)
    return [Row(draw.integers(0, 4096, n), np.arange(n) > n // 2) for n in lengths]


def one_pass(model: Any, objective: SftObjective, batch: int, size: int, precision: Any) -> dict[str, float]:
    began, real, worked, loss = time.process_time(), 0, 0, 0.0
    for start in range(0, len(objective), batch):
        indices = range(start, min(len(objective), start + batch))
        batches = [objective.batch(part) for part in objective.parts(indices, size)]
        weight = sum(objective.weight(one) for one in batches)
        loss += float(accumulate(model, objective, batches, weight, precision)["loss"])
        model.zero_grad()
        real += sum(one.tokens for one in batches)
        worked += sum(one.ids.numel() for one in batches)
    return {"tokens_per_s": real / (time.process_time() - began), "real": real / worked, "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--context", type=int, default=512, help="of the model: most tokens of a packed row")
    parser.add_argument("--longest", type=int, default=512, help="conversation, in tokens")
    parser.add_argument("--batch", type=int, default=16, help="conversations a step")
    parser.add_argument("--count", type=int, default=96, help="conversations in all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model(DecoderConfig(**SHAPE, context_length=given.context))
    model.init_weights(0)
    rows = conversations(given.count, given.longest)
    ways = {"padded": SftObjective(rows), "packed": SftObjective(rows, room=given.context)}
    size = max(1, min(given.batch, int(TOKENS_AT_ONCE // ways["padded"].tokens_per_sample())))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, objective in ways.items():
            found[name].append(one_pass(model, objective, given.batch, size, given.precision))
    for name, rounds in found.items():
        speed = statistics.median(one["tokens_per_s"] for one in rounds)
        print(
            f"{name}: {speed:,.0f} tokens/s, {rounds[0]['real']:.1%} real, loss sum {rounds[0]['loss']:.3f}"
        )
    fast, slow = (
        statistics.median(one["tokens_per_s"] for one in found[name]) for name in ("packed", "padded")
    )
    print(f"packed / padded: {fast / slow:.3f}")


if __name__ == "__main__":
    main()
