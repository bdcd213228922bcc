"""Predicted beside measured: tokens a second of answering, on this machine, calibrated.

    python benchmarks/cost_serving.py MODEL [--held bf16 int8 int4] [--batch 1 3 12] [--seconds 6] [--output FILE]

MODEL is the folder of a decoder with its tokenizer, or a GGUF file. For each way to hold its weights: a trial of its
shape with random weights (what `arriero calibrate MODEL` does) says what a step will take at numbers of answers and
contexts that were not measured; then the engine answers that many requests, and its steps are timed. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import arriero  # noqa: F401 - before torch: it tells waiting threads to sleep

# isort: split
import torch

from arriero.compression.quantize import QuantizeSettings
from arriero.compression.rounding import quantize_model
from arriero.inference.engine import Engine
from arriero.inference.request import Request, Sampling
from arriero.models.checkpoint import load_decoder
from arriero.models.decoder import Decoder
from arriero.planning.serving.trial import Shape, measure, trial_of
from arriero.tokenization.load import load_tokenizer

WANTED = 0.15
"""Largest relative error that is wanted."""
PROMPT = 200


def held_as(model: Decoder, held: str) -> Decoder:
    """A copy of the model with its weights held so."""
    model = copy.deepcopy(model)
    if held in ("int8", "int4"):
        scheme = QuantizeSettings(scheme=held).weight_scheme(model.config)
        quantize_model(model, scheme, torch.bfloat16)
    return model.to(torch.float32 if held == "fp32" else torch.bfloat16).eval()


def answered(engine: Engine, batch: int, seconds: float) -> tuple[float, float]:
    """Median seconds of a step that gives each of ``batch`` answers a token, and the tokens kept of each on average."""
    room = engine.context_length - PROMPT
    sampling = Sampling(temperature=0.0, max_tokens=min(room, 400), ignore_end=True)
    vocabulary = engine.tokenizer.vocab_size
    numbers = [
        engine.submit(Request([(17 * n + 5 * i) % vocabulary for i in range(PROMPT)], sampling, speculative="off"))
        for n in range(batch)
    ]  # fmt: skip
    generated = dict.fromkeys(numbers, 0)
    times, kept, until = [], [], float("inf")
    while not engine.idle and time.perf_counter() < until:
        decoding = all(generated.values())
        if decoding and not times:  # the prompts are through, however long they took
            until = time.perf_counter() + seconds
        before = sum(generated.values()) / batch
        started = time.perf_counter()
        events = engine.step()
        if decoding:
            times.append(time.perf_counter() - started)
            kept.append(PROMPT + before)
        for event in events:
            generated[event.request_id] += event.token_id is not None
    for number in numbers:
        engine.abort(number)
    return statistics.median(times), statistics.mean(kept)


def compare(model: Decoder, tokenizer: Any, held: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One way to hold the weights, at all numbers of answers."""
    shape = Shape(model.config, held, torch.get_num_threads())  # type: ignore[arg-type]
    trial = trial_of(SimpleNamespace(rates=measure(shape, budget_s=options.trial_seconds)), shape)  # type: ignore[arg-type]
    assert trial is not None
    engine = Engine(
        held_as(model, held), tokenizer, max_batch=max(options.batch), max_tokens_total=max(options.batch) * 1024,
        prefix_cache=False,
    )  # fmt: skip
    found = []
    for batch in options.batch:
        seconds, kept = answered(engine, batch, options.seconds)
        predicted, measured = batch / trial.decode(kept, batch), batch / seconds
        error = predicted / measured - 1
        print(
            f"{held:5} {batch:3} at a time, {kept:4.0f} kept   {predicted:8.1f} / {measured:8.1f} tokens/s {error:+6.1%}",
            flush=True,
        )
        found.append({"held": held, "batch": batch, "kept": kept, "predicted": predicted, "measured": measured, "error": error})  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--held", nargs="+", default=["bf16", "int8", "int4"], choices=["fp32", "bf16", "int8", "int4"]
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 3, 12])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--trial-seconds", type=float, default=15.0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    model, tokenizer = load_decoder(options.model), load_tokenizer(options.model)
    rows = [row for held in options.held for row in compare(model, tokenizer, held, options)]
    errors = [abs(row["error"]) for row in rows]
    print(f"mean error {statistics.mean(errors):.1%}, worst {max(errors):.1%} (wanted: at most {WANTED:.0%})")
    print(json.dumps(rows))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
