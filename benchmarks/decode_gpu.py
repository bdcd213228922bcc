"""Decoding on a GPU: share of memory bandwidth at one answer at a time, tokens a second at 1 to 256, beside transformers.

    python benchmarks/decode_gpu.py [--models llama-1b llama-8b] [--batch 1 8 64 256] [--kept 512] [--steps 32]
                                    [--skip-transformers] [--output FILE] [--require-gpu]

The weights are random; every step gives each of the answers one token, with ``--kept`` tokens kept of each. Share of
bandwidth = bytes of the weights that a step reads, and of the keys and values, / (median seconds of a step x bytes a
second of a copy of 4 GiB, read plus write, measured in the same run). transformers decodes the same batch from the same
weights with its own cache. The last line is JSON. Without a GPU it says so and ends with status 0; with --require-gpu
with status 2. ``--device cpu --models tiny`` runs the same code on a processor, to see that it works.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from arriero.inference.kv_pool import BLOCK, blocks_of
from arriero.inference.memory import make_pool
from arriero.inference.rows import Rows
from arriero.inference.runners import make_runner
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 128, "vocab_size": 500},
    "llama-1b": {"d_model": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "d_ff": 8192, "vocab_size": 128256},
    "llama-8b": {"d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "d_ff": 14336, "vocab_size": 128256},
}  # fmt: skip
GOALS = {"bandwidth_at_1": 0.65, "over_transformers_at_64": 10.0}
_WARM_UP = 4


def model_of(name: str, device: str) -> Decoder:
    """A Llama of that shape in bfloat16, its weights drawn."""
    tied = {"tie_embeddings": name == "llama-1b"}
    model = Decoder(DecoderConfig(**SHAPES[name], **tied, context_length=8192)).to(device, torch.bfloat16)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02, generator=generator)
    return model.eval()


def copy_rate(device: str) -> float:
    """Bytes a second of a large copy, read plus write."""
    size = (4 << 30) if device == "cuda" else (256 << 20)
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    best = min(timed(lambda: target.copy_(source), device) for _ in range(8))
    return 2 * size / best


def timed(work: Any, device: str) -> float:
    """Seconds until the device is done."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def ours(model: Decoder, batch: int, kept: int, steps: int, device: str) -> float:
    """Median seconds of a step."""
    each = blocks_of(kept + steps + _WARM_UP + 1)
    pool = make_pool(model, batch, batch * each * BLOCK, "auto")
    runner = make_runner("auto", model, pool, None)
    blocks = list(range(batch * each))
    ids = [7 * n % model.config.vocab_size for n in range(batch)]
    seconds = []
    for step in range(steps + _WARM_UP):
        rows = Rows()
        for n, token in enumerate(ids):
            rows.add([token], kept + step, blocks[n * each : (n + 1) * each], [0])
        started = time.perf_counter()
        ids = runner.run(rows).argmax(-1).tolist()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_WARM_UP:])


def theirs(folder: Path, batch: int, kept: int, steps: int, device: str) -> float:
    """Median seconds of a step of transformers' own forward pass with its dynamic cache."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    with torch.inference_mode():
        ids = torch.randint(0, model.config.vocab_size, (batch, kept), device=device)
        parts = ids.split(max(1, 65536 // kept))  # a whole batch of long prompts would not fit
        if len(parts) > 1:
            raise SystemExit("choose a smaller --kept for transformers: its cache is filled by one pass")
        done = model(ids, use_cache=True, logits_to_keep=1)
        token, cache, seconds = done.logits[:, -1:].argmax(-1), done.past_key_values, []
        for _ in range(steps + _WARM_UP):
            started = time.perf_counter()
            done = model(token, past_key_values=cache, use_cache=True)
            token, cache = done.logits[:, -1:].argmax(-1), done.past_key_values
            token.tolist()
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[_WARM_UP:])


def measure(name: str, options: argparse.Namespace, rate: float) -> list[dict[str, Any]]:
    """One model at all batches, both sides by turns."""
    from arriero.models.checkpoint import save_model

    model, rows = model_of(name, options.device), []
    tables = 0 if model.head is None else model.embedding.weight.numel()
    weights = 2.0 * (sum(p.numel() for p in model.parameters()) - tables)
    with tempfile.TemporaryDirectory() as root:
        if not options.skip_transformers:
            save_model(model, Path(root), "bfloat16")
        for batch in options.batch:
            seconds = ours(model, batch, options.kept, options.steps, options.device)
            read = weights + batch * options.kept * model.config.kv_bytes_per_token(2)
            row = {
                "model": name, "batch": batch, "kept": options.kept, "tokens_per_s": batch / seconds,
                "bytes_per_s": read / seconds, "share_of_copy": read / seconds / rate, "over_transformers": None,
            }  # fmt: skip
            if not options.skip_transformers:
                row["over_transformers"] = (
                    theirs(Path(root), batch, options.kept, options.steps, options.device) / seconds
                )
            over = "-" if row["over_transformers"] is None else f"{row['over_transformers']:.2f}"
            print(
                f"{name:9} {batch:4} at a time  {row['tokens_per_s']:10.1f} tokens/s  {read / seconds / 1e9:8.1f} GB/s "
                f"{row['share_of_copy']:6.1%} of a copy   transformers x {over}",
                flush=True,
            )
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["llama-1b", "llama-8b"], choices=list(SHAPES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8, 64, 256])
    parser.add_argument("--kept", type=int, default=256)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--skip-transformers", action="store_true")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--require-gpu", action="store_true", help="end with status 2 where there is no GPU")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "there is no GPU here: nothing was measured (--device cpu --models tiny tries the code on a processor)"
        )
        return 2 if options.require_gpu else 0
    name = torch.cuda.get_device_name() if options.device == "cuda" else "processor"
    rate = copy_rate(options.device)
    print(f"{name}: a copy moves {rate / 1e9:.0f} GB/s, torch {torch.__version__}")
    rows = [row for model in options.models for row in measure(model, options, rate)]
    result = {
        "device": name, "date": datetime.date.today().isoformat(), "torch": torch.__version__,
        "copy_bytes_per_s": rate, "goals": GOALS, "rows": rows,
    }  # fmt: skip
    print(json.dumps(result))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
