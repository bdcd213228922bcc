"""Training side by side: Arriero's loop, Hugging Face's Trainer, TRL's SFTTrainer, and plain loops, in one run.

    python benchmarks/training.py [--quick] [--sizes 10M 33.8M 135M] [--precision fp32 bf16]
                                  [--contenders arriero hf-trainer hf-trainer-own-malloc trl trl-flat plain plain-ours] [--rounds 2]

Same Llama, same first weights, same rows in the same order, same optimizer; every contender in a process of its own,
by turns. Printed: tokens a second (median over steps and rounds, and the range of the rounds' medians), peak resident
memory of the process, Arriero's over each contender's, the share of the fastest matrix product measured here,
and the last loss. ``lm`` scores every token of full rows. ``sft`` are chats of uneven length where the assistant's
tokens are scored; its tokens a second count no padding, and ``trl-flat`` is TRL without padding (``padding_free``).
The last line is JSON. Needs the extra [bench].

Share of the peak: tokens/s x FLOPs a token / the fastest product; FLOPs a token = 6 x parameters in products (the
head among them, the embedding's look-up not) + 6 x layers x length x width (attention, causal half).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training_contenders import CONTENDERS, Job

SIZES: dict[str, dict[str, int]] = {
    "10M": {"d_model": 256, "n_layers": 6, "n_heads": 4, "d_ff": 768, "vocab_size": 16000, "rows": 8},
    "33.8M": {"d_model": 448, "n_layers": 8, "n_heads": 7, "d_ff": 1216, "vocab_size": 32000, "rows": 8},
    "135M": {
        "d_model": 576,
        "n_layers": 30,
        "n_heads": 9,
        "n_kv_heads": 3,
        "d_ff": 1536,
        "vocab_size": 49152,
        "rows": 4,
    },
}
"""The second has 33.84 million parameters; the third is SmolLM's shape."""
LENGTH = 256
STEPS = {"10M": 10, "33.8M": 7, "135M": 5}
LM = ("arriero", "hf-trainer", "hf-trainer-own-malloc", "trl", "plain", "plain-ours")
SFT = ("arriero", "trl", "trl-flat")
Key = tuple[str, str, str, str]
"""Task, size, precision, contender."""


def write_model(size: str, folder: Path) -> int:
    """Draw the weights that all start from; returns the FLOPs a token takes in training."""
    from arriero.models.checkpoint import save_model
    from arriero.models.decoder import Decoder
    from arriero.models.decoder_config import DecoderConfig

    shape = {key: value for key, value in SIZES[size].items() if key != "rows"}
    model = Decoder(DecoderConfig(**shape, context_length=LENGTH, tie_embeddings=True))
    model.init_weights(0)
    save_model(model, folder, bos_token_id=1, eos_token_id=1, pad_token_id=0)
    counts = model.parameter_counts()
    products = counts["attention"] + counts["feed_forward"] + shape["vocab_size"] * shape["d_model"]
    return 6 * products + 6 * shape["n_layers"] * LENGTH * shape["d_model"]


def fastest_product(threads: int) -> dict[str, float]:
    """FLOP/s of the fastest of some large matrix products, by precision, by the library that is faster."""
    import torch

    from arriero.cost.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    best = {"fp32": 0.0, "bf16": 0.0}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for m, k, n in ((2048, 1536, 1536), (2048, 576, 1536), (1024, 2048, 2048)):
            x, w = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
            for product in (torch.ops.mkldnn._linear_pointwise, None):
                for _ in range(8):
                    started = time.perf_counter()
                    x @ w.t() if product is None else product(x, w, None, "none", [], "")
                    best[precision] = max(best[precision], 2 * m * k * n / (time.perf_counter() - started))
    return best


def run_job(job: Job, tunables: str | None = None) -> dict[str, Any] | None:
    """One contender in a fresh process; None, with its last words shown, when it failed.

    Args:
        tunables: of the C library. By default those that Arriero's command line starts with, but for contenders that
            bring their own allocator settings.
    """
    from arriero.process import NO_SMALL_CACHE, TUNABLES

    if tunables is None:
        tunables = "" if job.contender.endswith("own-malloc") else NO_SMALL_CACHE
    script = Path(__file__).with_name("training_contenders.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(asdict(job))], capture_output=True, text=True, check=False,
        env={**os.environ, TUNABLES: tunables},
    )  # fmt: skip
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    print(f"  {job.contender} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
    return None


def jobs_of(options: argparse.Namespace, folders: dict[str, str]) -> list[tuple[Key, Job]]:
    """All work in the order of running: every round of a size and precision has all contenders in turn."""
    found = []
    for size in options.sizes:
        for precision in options.precision:
            for number in range(options.rounds if size == "33.8M" else 1):
                turns = [("lm", name) for name in LM] + [("sft", name) for name in SFT if size == "33.8M"]
                for task, name in turns if number % 2 == 0 else turns[::-1]:
                    if name in options.contenders:
                        job = Job(
                            contender=name, task=task, folder=folders[size], precision=precision,
                            rows=options.rows or SIZES[size]["rows"], length=LENGTH, steps=options.steps or STEPS[size],
                            vocab_size=SIZES[size]["vocab_size"], threads=options.threads,
                        )  # fmt: skip
                        found.append(((task, size, precision, name), job))
    return found


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and range of tokens a second, peak memory, last loss."""
    rates = [
        statistics.median(n / s for n, s in zip(r["tokens"], r["seconds"], strict=True)) for r in results
    ]
    overheads = [r["overhead"] for r in results if r["overhead"] is not None]
    return {
        "tokens_per_s": statistics.median(rates), "range": [min(rates), max(rates)],
        "peak_mib": max(r["peak_mib"] for r in results), "loss": results[-1]["losses"][-1],
        "overhead": statistics.median(overheads) if overheads else None,
    }  # fmt: skip


def show(found: dict[Key, dict[str, Any]], flops: dict[str, int], peak: dict[str, float]) -> None:
    """One table for each task, size and precision."""
    print(f"fastest product: {peak['fp32'] / 1e9:.0f} GFLOP/s fp32, {peak['bf16'] / 1e9:.0f} bf16")
    for task, size, precision in dict.fromkeys(key[:3] for key in found):
        group = {
            name: row for (*place, name), row in found.items() if tuple(place) == (task, size, precision)
        }
        print(f"\n{task} {size} {precision}")
        print(
            f"{'':<21} {'tokens/s':>9} {'range':>13} {'ours/it':>8} {'MiB':>6} {'ours/it':>8} {'of peak':>8} {'loss':>9}"
        )
        ours = group.get("arriero")
        for name, row in group.items():
            share = row["tokens_per_s"] * flops[size] / peak[precision]
            faster = f"{ours['tokens_per_s'] / row['tokens_per_s']:.2f}" if ours else ""
            smaller = f"{ours['peak_mib'] / row['peak_mib']:.2f}" if ours else ""
            low, high = row["range"]
            share_text = f"{share:.0%}" if task == "lm" else ""
            print(
                f"{name:<21} {row['tokens_per_s']:9.0f} {low:6.0f}-{high:<6.0f} {faster:>8} {row['peak_mib']:6.0f} "
                f"{smaller:>8} {share_text:>8} {row['loss']:9.4f}"
            )
        if ours and ours["overhead"] is not None:
            print(f"meters, logs, checks and batches: {ours['overhead']:.2%} of Arriero's loop")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="33.8M alone, one round, five steps")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=2, help="of the 33.8M model; the others have one")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=0, help="of a batch  [default: 8; 4 at 135M]")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.rounds, options.steps = ["33.8M"], 1, options.steps or 5
    return options


def main() -> None:
    options = parse()
    peak = fastest_product(options.threads)
    flops: dict[str, int] = {}
    results: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as root:
        folders = {size: str(Path(root) / size) for size in options.sizes}
        for size, folder in folders.items():
            flops[size] = write_model(size, Path(folder))
        for key, job in jobs_of(options, folders):
            started = time.perf_counter()
            result = run_job(job)
            if result is not None:
                results[key].append(result)
                rate = summary([result])
                print(
                    f"  {' '.join(key)}: {rate['tokens_per_s']:.0f} tokens/s, {rate['peak_mib']:.0f} MiB "
                    f"({time.perf_counter() - started:.0f} s)", flush=True,
                )  # fmt: skip
    found = {key: summary(rows) for key, rows in results.items()}
    peak = {
        name: max(rate, again)
        for (name, rate), again in zip(peak.items(), fastest_product(options.threads).values(), strict=True)
    }
    show(found, flops, peak)
    print(
        json.dumps(
            {
                "threads": options.threads,
                "rows": options.rows or {size: SIZES[size]["rows"] for size in options.sizes},
                "peak_flops_per_s": peak,
                "results": {" ".join(k): v for k, v in found.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
