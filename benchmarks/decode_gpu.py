"""Decoding on a GPU: share of memory bandwidth at one answer at a time, tokens a second at 1 to 256, beside transformers.

    python benchmarks/decode_gpu.py [--models llama-1b llama-8b] [--batch 1 8 64 256] [--kept 512] [--steps 32]
                                    [--weights bf16|fp8|int8|int4] [--runner auto|cuda|torch]
                                    [--skip-transformers] [--output FILE] [--require-gpu]

The weights are random; every step gives each of the answers one token, with ``--kept`` tokens kept of each. Share of
bandwidth = bytes of the weights that a step reads, and of the keys and values, / (median seconds of a step x bytes a
second of a copy of 4 GiB, read plus write, measured in the same run). Before anything is timed, the runner's logits of a few
steps are compared with those of the torch runner over the same weights, and the largest difference is reported in standard
deviations of the logits. transformers decodes the same batch from the bfloat16 weights with its own cache. The last line
is JSON. Without a GPU it says so and ends with status 0; with --require-gpu
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

from arriero.compression.rounding import quantize_model
from arriero.errors import ArrieroError
from arriero.inference.kv_pool import BLOCK, blocks_of
from arriero.inference.memory import make_pool
from arriero.inference.rows import Rows, Runner
from arriero.inference.runners import make_runner
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import WeightScheme

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 128, "vocab_size": 500},
    "llama-1b": {"d_model": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "d_ff": 8192, "vocab_size": 128256},
    "llama-8b": {"d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 8, "d_ff": 14336, "vocab_size": 128256},
}  # fmt: skip
GOALS = {"bandwidth_at_1": 0.65, "over_transformers_at_64": 10.0}
_WARM_UP = 4
_SCHEMES = {"int8": WeightScheme(8), "int4": WeightScheme(4, 32)}


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


def prepared(model: Decoder, options: argparse.Namespace) -> float:
    """Put the model's weights into the form that is asked for; gives the bytes of them that a step reads."""
    if options.weights in _SCHEMES:
        quantize_model(model, _SCHEMES[options.weights], torch.bfloat16)
    tensors = [*model.parameters(), *(b for name, b in model.named_buffers() if ".weight_" in name)]
    read = float(sum(t.numel() * t.element_size() for t in tensors))
    if options.weights == "fp8":
        read -= sum(
            w.numel() for name, w in model.named_parameters() if name.startswith("blocks.") and w.ndim == 2
        )
    # of an embedding that is not the head, too, only the rows of the step's tokens are read
    return read if model.head is None else read - 2.0 * model.embedding.weight.numel()


def runner_of(model: Decoder, batch: int, tokens: int, options: argparse.Namespace) -> Runner:
    pool = make_pool(model, batch, batch * blocks_of(tokens) * BLOCK, "auto")
    return make_runner(options.runner, model, pool, None, fp8=options.weights == "fp8")


def decode(ids: list[int], stored: int, each: int) -> Rows:
    """A step in which every answer takes one token; ``each``: blocks of an answer."""
    rows = Rows()
    for n, token in enumerate(ids):
        rows.add([token], stored, list(range(n * each, (n + 1) * each)), [0])
    return rows


def difference(model: Decoder, options: argparse.Namespace) -> float:
    """Largest difference to the torch runner's logits in standard deviations: a prompt, then steps of one token."""
    text = [7 * n % model.config.vocab_size for n in range(2 * BLOCK)]
    runners = [runner_of(model, 2, 2 * BLOCK, options)]
    runners.append(make_runner("torch", model, make_pool(model, 2, 4 * BLOCK, "auto"), None))
    worst = 0.0
    for stored in (0, *range(BLOCK + 30, BLOCK + 36)):
        rows = decode(text[stored : stored + 2], stored, 2)
        if not stored:
            rows = Rows()
            for n in range(2):
                rows.add(text[: BLOCK + 30], 0, [2 * n, 2 * n + 1], [0, BLOCK + 29])
        found, expected = (runner.run(rows) for runner in runners)
        worst = max(worst, float((found - expected).abs().max() / expected.std()))
    return worst


def ours(model: Decoder, batch: int, options: argparse.Namespace) -> float:
    """Median seconds of a step."""
    tokens = options.kept + options.steps + _WARM_UP + 1
    runner = runner_of(model, batch, tokens, options)
    ids = [7 * n % model.config.vocab_size for n in range(batch)]
    seconds = []
    for step in range(options.steps + _WARM_UP):
        rows = decode(ids, options.kept + step, blocks_of(tokens))
        started = time.perf_counter()
        ids = runner.run(rows).argmax(-1).tolist()
        synchronise(options.device)
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
    with tempfile.TemporaryDirectory() as root:
        if not options.skip_transformers:
            save_model(model, Path(root), "bfloat16")
        weights = prepared(model, options)
        runner = runner_of(model, 1, BLOCK, options).name
        off = difference(model, options)
        print(
            f"{name:9} {options.weights} by the runner {runner}: logits off by {off:.3g} of their deviation at most"
        )
        for batch in options.batch:
            seconds = ours(model, batch, options)
            read = weights + batch * options.kept * model.config.kv_bytes_per_token(2)
            row = {
                "model": name, "weights": options.weights, "runner": runner, "difference": off, "batch": batch, "kept": options.kept, "tokens_per_s": batch / seconds,
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
    parser.add_argument("--weights", default="bf16", choices=["bf16", "fp8", *_SCHEMES])
    parser.add_argument("--runner", default="auto", choices=["auto", "cuda", "torch"])
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
    try:
        rows = [row for model in options.models for row in measure(model, options, rate)]
    except ArrieroError as error:
        print(error)
        return 1
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
