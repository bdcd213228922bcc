"""Forward pass and training step beside transformers: seconds, peak memory and their ratios in one run.

    python benchmarks/models.py [--sizes 30M 135M] [--rounds 5] [--threads 2] [--precision fp32]

Both sides have the same random weights, tokens, threads, loss (checked to be equal) and fused AdamW. Every measurement
is a process of its own, the sides by turns, so that neither memory nor a slow minute of the machine counts for one of
them alone. Printed: the median of the rounds and the ratio theirs / ours of each round (median, lowest, highest), both
with freed memory kept as the training loop keeps it; the peak of resident memory that the work added to what the process
had before it; and the peak of all tensors alive at once, their storage counted operation by operation. Needs the
extra ``bench``.

A forward pass's resident memory is read with the C library as it comes (``--kept``: as in training). A heap that keeps
what is freed tells where blocks happen to fall, not what a pass needs: logits of 100 MB are a hole when they are freed,
an aligned block of that size wants a few bytes more than the hole has, and either side may end up with two of them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "30M": {"vocab_size": 24576, "d_model": 384, "n_layers": 12, "n_heads": 6, "n_kv_heads": 6, "d_ff": 1024},
    "135M": {
        "vocab_size": 49152,
        "d_model": 576,
        "n_layers": 30,
        "n_heads": 9,
        "n_kv_heads": 3,
        "d_ff": 1536,
    },
}
CONTEXT = 512
ROWS, LENGTH = 4, 256
SIDES = ("arriero", "transformers")
WORKS = ("forward", "training")
CALLS = 5
"""In a row, while memory is read: what is freed and needed again may take new memory."""


def ours(shape: dict[str, int]) -> Any:
    """Arriero's decoder with drawn weights."""
    from arriero.models.decoder import Decoder
    from arriero.models.decoder_config import DecoderConfig

    model = Decoder(DecoderConfig.model_validate({**shape, "context_length": CONTEXT}))
    model.init_weights(0)
    return model


def theirs(shape: dict[str, int]) -> Any:
    """transformers' Llama with the very same weights, in its fastest attention on a CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from arriero.models.families import get_family
    from arriero.models.hf_names import hf_tensor

    source = ours(shape)
    config = LlamaConfig(
        vocab_size=shape["vocab_size"], hidden_size=shape["d_model"], num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"], num_key_value_heads=shape["n_kv_heads"],
        intermediate_size=shape["d_ff"], max_position_embeddings=CONTEXT, rms_norm_eps=1e-5,
        rope_theta=500000.0, tie_word_embeddings=True, use_cache=False, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    family = get_family("llama")
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            model.get_parameter(str(hf_tensor(family, source.config, name))).copy_(tensor)
    return model


def our_loss(model: Any, ids: Any) -> Any:
    """Mean cross-entropy as the training loop works it out: in chunks, never the full logits."""
    from arriero.training.objectives.head import loss_sum

    targets = ids[:, 1:].flatten()
    return loss_sum(model, model.hidden(ids[:, :-1]).flatten(0, 1), targets) / len(targets)


def their_loss(model: Any, ids: Any) -> Any:
    """The same tokens, through the library's own loss."""
    return model(ids[:, :-1], labels=ids[:, :-1], shift_labels=ids[:, 1:].contiguous()).loss


def peak_memory() -> int:
    """Most bytes that were resident since the mark was last cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def clear_peak() -> int:
    """Bytes resident now, freed ones given back; the mark of the peak starts from there."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def repeat(work: Callable[[], Any], seconds: float) -> float:
    """Median seconds of a call, two to warm up left out."""
    work()
    work()
    times: list[float] = []
    deadline = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < deadline:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def prepare(side: str, work: str, size: str, precision: str) -> tuple[Any, Callable[[], float]]:
    """The model, and a call that does the work once and returns a figure by which the sides can be compared."""
    import torch

    model = (ours if side == "arriero" else theirs)(SHAPES[size])
    model.train(work == "training")
    loss_of = our_loss if side == "arriero" else their_loss
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, SHAPES[size]["vocab_size"], (ROWS, LENGTH + 1), generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def cast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def forward() -> float:
        with torch.inference_mode(), cast():
            logits = model(ids[:, :-1])
            return float(getattr(logits, "logits", logits)[0, -1, 0])

    def step() -> float:
        with cast():
            loss = loss_of(model, ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return model, forward if work == "forward" else step


def measure(reading: str, side: str, work: str, size: str, options: argparse.Namespace) -> dict[str, float]:
    """One measurement, in this process."""
    import torch

    from arriero.cost.allocator import keep_freed_memory
    from arriero.cost.trace import trace

    if reading == "time" or work == "training" or options.kept:
        keep_freed_memory()  # for both sides: without it either may lose a tenth and more to page faults
    torch.set_num_threads(options.threads)
    model, call = prepare(side, work, size, options.precision)
    if reading == "time":
        return {"seconds": repeat(call, options.seconds)}
    before = clear_peak()
    results = [call() for _ in range(CALLS)]
    resident = peak_memory() - before
    model, call = prepare(side, work, size, options.precision)  # without an optimizer's state
    traced = trace(lambda: model, lambda _: call(), fake=False)
    return {"resident": resident, "tensors": traced.peak_bytes - traced.state_bytes, "result": results[0]}


def child(reading: str, side: str, work: str, size: str, options: argparse.Namespace) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    command = [
        sys.executable, __file__, "--child", reading, side, work, "--sizes", size,
        "--threads", str(options.threads), "--precision", options.precision, "--seconds", str(options.seconds),
        *(["--kept"] if options.kept else []),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(size: str, work: str, options: argparse.Namespace) -> None:
    """Both sides by turns, and a line with the result."""
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for number in range(options.rounds):
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            readings = [child(reading, side, work, size, options) for reading in ("time", "memory")]
            rounds[side].append({**readings[0], **readings[1]})
    a, b = rounds["arriero"], rounds["transformers"]
    tolerance = 2e-4 if options.precision == "fp32" else 5e-2
    if abs(a[0]["result"] - b[0]["result"]) > tolerance * max(1.0, abs(b[0]["result"])):
        raise SystemExit(f"the sides do not compute the same: {a[0]['result']} and {b[0]['result']}")
    ratios = sorted(y["seconds"] / x["seconds"] for x, y in zip(a, b, strict=True))
    mine, yours = (statistics.median(r["seconds"] for r in side) for side in (a, b))
    print(
        f"{size:>5} {work:<8} {mine * 1e3:9.1f} ms {yours * 1e3:9.1f} ms   {statistics.median(ratios):5.2f}x "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})   {memory(a, b, 'resident')}   {memory(a, b, 'tensors')}",
        flush=True,
    )


def memory(a: list[dict[str, float]], b: list[dict[str, float]], kind: str) -> str:
    """The most of either side's rounds, and theirs / ours."""
    mine, yours = (max(r[kind] for r in side) for side in (a, b))
    return f"{mine / 1e6:7.0f} MB {yours / 1e6:7.0f} MB   {yours / mine:5.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument(
        "--kept", action="store_true", help="keep freed memory while reading a forward pass's too"
    )
    parser.add_argument("--child", nargs=3, metavar=("READING", "SIDE", "WORK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        reading, side, work = options.child
        print(json.dumps(measure(reading, side, work, options.sizes[0], options)))
        return
    print(f"{ROWS} x {LENGTH} tokens, {options.threads} threads, {options.precision}")
    print(
        f"{'size':>5} {'work':<8} {'arriero':>12} {'transformers':>12}   speed                  "
        "resident memory added             tensors alive"
    )
    for size in options.sizes:
        for work in WORKS:
            compare(size, work, options)


if __name__ == "__main__":
    main()
