"""Training speed on a GPU: GPT-2-124M- and Llama-1B-shaped models at 1k to 8k tokens of context, and their MFU.

    python benchmarks/training_gpu.py [--models gpt2-124m llama-1b] [--context 1024 8192] [--precision bf16 fp8]
                                      [--compile] [--activation-checkpointing none selective full] [--steps 12]

MFU = FLOPs of a step (counted operation by operation in a trace of the step without recomputation: multiply-adds count
two, causal attention half, nothing element-wise) / (median seconds of a step x the GPU's dense peak in bf16).
The peak is the vendor's where the GPU is known (H200, H100: 989.4e12 FLOP/s; A100: 312e12), else that of the fastest
matrix product measured here, and which of the two it was is printed.

Without a GPU it says so and ends with status 0; with --require-gpu with status 2.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from typing import Any

import torch

from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.precision import Arithmetic
from arriero.training.prepare import on_device, prepared
from arriero.training.settings import TrainSettings
from arriero.training.step import accumulate
from arriero.training.traced import Work, step_figures

PEAKS = {"H200": 989.4e12, "H100": 989.4e12, "A100": 312e12}
TOKENS_A_STEP = 32768
GOALS = {"gpt2-124m": 0.55, "llama-1b": 0.60}
_WARM_UP = 3


def config_of(name: str, context: int) -> DecoderConfig:
    """A model's shape; vocabularies are filled up to a multiple of 128, as is usual for speed."""
    if name == "gpt2-124m":
        return DecoderConfig(
            family="gpt2", d_model=768, n_layers=12, n_heads=12, d_ff=3072, vocab_size=50304, context_length=context,
            norm="layer", positions="learned", activation="gelu_tanh", gated=False, qkv_bias=True, out_bias=True,
            feed_forward_bias=True,
        )  # fmt: skip
    return DecoderConfig(  # Llama 3.2 1B
        d_model=2048,
        n_layers=16,
        n_heads=32,
        n_kv_heads=8,
        d_ff=8192,
        vocab_size=128256,
        context_length=context,
    )


def peak_of(device: torch.device) -> tuple[float, str]:
    """FLOP/s in bf16, and where the figure is from."""
    name = torch.cuda.get_device_name(device)
    for known, peak in PEAKS.items():
        if known in name:
            return peak, f"{known}, dense, as the vendor says"
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(20):
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        a @ b
        torch.cuda.synchronize(device)
        best = max(best, 2 * 8192**3 / (time.perf_counter() - started))
    return best, "fastest product measured, 8192 x 8192 x 8192"


def measure(name: str, context: int, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step, tokens a second, MFU and peak memory of one model at one context."""
    settings = TrainSettings(
        precision=precision, compile=options.compile, activation_checkpointing=options.activation_checkpointing
    )  # fmt: skip
    config = config_of(name, context)
    model = Decoder(config)
    model.init_weights(0)
    rows = max(1, options.micro_batch_tokens // context)
    objective = CausalObjective(PlannedWindows(rows, context), context, document_mask=False)
    shape = Shape(rows, context, rows * context)
    parts = max(1, TOKENS_A_STEP // (rows * context))
    plain = settings.model_copy(update={"activation_checkpointing": "none"})
    flops = step_figures(Work(config, objective, plain, "bf16"), [shape], None).flops * parts
    with on_device(model, "cuda"), prepared(model.train(), settings, Arithmetic(precision, 1, "cuda")):
        seconds = _steps(model, objective, shape, parts, precision, options.steps)
        memory = torch.cuda.max_memory_allocated() / 2**30
    peak, source = peak_of(torch.device("cuda"))
    middle = statistics.median(seconds[_WARM_UP:])
    return {
        "model": name, "parameters": sum(model.parameter_counts().values()), "context": context, "precision": precision,
        "micro_batch": rows, "micro_batches": parts, "seconds": middle,
        "tokens_per_s": rows * context * parts / middle, "mfu": flops / middle / peak, "peak_gib": memory,
        "peak_flops_per_s": peak, "peak_from": source, "goal": GOALS[name],
    }  # fmt: skip


def _steps(
    model: Decoder, objective: Any, shape: Shape, parts: int, precision: str, count: int
) -> list[float]:
    batch = objective.synthetic(shape)
    generator = torch.Generator().manual_seed(0)
    batch.ids.random_(model.config.vocab_size, generator=generator)
    batch.targets.random_(model.config.vocab_size, generator=generator)
    batch = batch.to(torch.device("cuda"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(count + _WARM_UP):
        torch.cuda.synchronize()
        started = time.perf_counter()
        accumulate(model, objective, [batch] * parts, parts * shape.scored, precision)  # type: ignore[arg-type]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--context", nargs="+", type=int, default=[1024, 2048, 4096, 8192])
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=["fp32", "bf16", "fp8"])
    parser.add_argument("--micro-batch-tokens", type=int, default=16384)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--activation-checkpointing", default="none", choices=["none", "selective", "full"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--require-gpu", action="store_true", help="end with status 2 where there is no GPU")
    return parser.parse_args()


def main() -> int:
    options = parse()
    if not torch.cuda.is_available():
        print("no GPU here: torch sees no CUDA device, so nothing was measured")
        return 2 if options.require_gpu else 0
    print(f"{datetime.date.today()} {torch.cuda.get_device_name()} torch {torch.__version__}")
    print(f"{'model':<10} {'context':>7} {'arith':>5} {'tokens/s':>9} {'MFU':>6} {'goal':>5} {'GiB':>6}")
    rows = []
    for name in options.models:
        for context in options.context:
            for precision in options.precision:
                row = measure(name, context, precision, options)
                rows.append(row)
                print(
                    f"{name:<10} {context:7d} {precision:>5} {row['tokens_per_s']:9.0f} {row['mfu']:6.1%} "
                    f"{row['goal']:5.0%} {row['peak_gib']:6.1f}", flush=True,
                )  # fmt: skip
                torch.cuda.empty_cache()
    print(
        f"MFU: FLOPs of a traced step / (seconds x {rows[-1]['peak_flops_per_s'] / 1e12:.0f} TFLOP/s: {rows[-1]['peak_from']})"
    )
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
