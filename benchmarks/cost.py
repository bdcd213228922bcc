"""Predicted beside measured: training runs that were never run before, on this machine, calibrated.

    python benchmarks/cost.py [--only NAME ...] [--seconds 20] [--trial-seconds 8] [--no-trials] [--seed N]
        [--rounds 1]

For each configuration, in this order: the plan is made from the device profile (`arriero calibrate`) and, unless told
otherwise, from a trial of a few real steps; then the run is done in a process of its own, so many steps
that it should take the wanted seconds; then wall seconds and peak resident memory are compared. ``--seed`` draws other
configurations (1M to 50M parameters, other contexts, precisions, LoRA, recomputation). ``--rounds`` repeats plan and run by
turns: the error of the means tells what the plans miss, the errors of the rounds what this machine's restlessness adds.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from arriero.process import NO_SMALL_CACHE, TUNABLES

LIMITS = {"seconds": (0.10, 0.25), "peak_memory": (0.10, 0.25)}
"""Mean and worst relative error that are wanted."""


@dataclass(frozen=True)
class Setup:
    """One configuration."""

    name: str
    config: dict[str, Any]
    precision: str
    rows: int
    length: int
    micro: int = 0
    lora_rank: int = 0
    recompute: str = "none"
    steps: int = 0


def llama(d_model: int, n_layers: int, vocab_size: int, **more: Any) -> dict[str, Any]:
    heads = max(2, d_model // 64)
    return {
        "d_model": d_model, "n_layers": n_layers, "n_heads": heads, "head_dim": d_model // heads // 2 * 2,
        "d_ff": 8 * d_model // 3 // 16 * 16, "vocab_size": vocab_size, **more,
    }  # fmt: skip


SETUPS = [
    Setup("1M fp32", llama(128, 4, 2048), "fp32", 16, 128),
    Setup("3M bf16 long", llama(192, 6, 2048), "bf16", 4, 1024),
    Setup("6M fp32 full", llama(256, 6, 4096), "fp32", 8, 256, recompute="full"),
    Setup("10M bf16", llama(320, 8, 4096), "bf16", 8, 512),
    Setup("16M fp32", llama(384, 8, 8192), "fp32", 6, 256, micro=2),
    Setup("20M bf16 selective", llama(448, 8, 8192), "bf16", 8, 512, recompute="selective"),
    Setup("34M fp32 lora", llama(448, 8, 32000, tie_embeddings=True), "fp32", 4, 256, lora_rank=16),
    Setup("34M bf16 lora full", llama(512, 10, 8192), "bf16", 8, 512, lora_rank=8, recompute="full"),
    Setup("50M bf16", llama(576, 10, 16000, tie_embeddings=True), "bf16", 4, 256),
    Setup("50M fp32", llama(512, 12, 16000, tie_embeddings=True), "fp32", 4, 512, micro=2),
]


def drawn(seed: int, count: int = 10) -> list[Setup]:
    """Other configurations."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        width, depth = rng.choice([128, 192, 256, 320, 384, 448, 512]), rng.randint(3, 12)
        length = rng.choice([96, 128, 256, 512, 1024])
        found.append(
            Setup(
                f"{number}", llama(width, depth, rng.choice([1024, 4096, 8192, 16000])), rng.choice(["fp32", "bf16"]),
                max(1, rng.choice([1024, 2048, 4096]) // length), length, lora_rank=rng.choice([0, 0, 8]),
                recompute=rng.choice(["none", "none", "selective", "full"]),
            )
        )  # fmt: skip
    return found


# ---------------------------------------------------------------- both sides


def parts(setup: Setup) -> tuple[Any, Any, Any]:
    """Config, objective over random windows, settings."""
    import numpy as np

    from arriero.models.decoder_config import DecoderConfig
    from arriero.training.objectives.causal import CausalObjective
    from arriero.tuning.adapt import AdaptSettings

    steps = setup.steps or 1
    config = DecoderConfig(**setup.config, context_length=setup.length)
    frequencies = 1.0 / (np.arange(config.vocab_size) + 10.0)
    rng = np.random.default_rng(0)

    class Windows:
        def __len__(self) -> int:
            return setup.rows * steps

        def batch(self, indices: Any) -> tuple[np.ndarray, np.ndarray]:
            shape = (len(indices), setup.length + 1)
            ids = rng.choice(config.vocab_size, shape, p=frequencies / frequencies.sum())
            return ids, np.zeros_like(ids)

    settings = AdaptSettings(
        duration=f"{steps} steps", batch_size=setup.rows, micro_batch_size=setup.micro, precision=setup.precision,
        activation_checkpointing=setup.recompute, lora_rank=setup.lora_rank, checkpoint_every="60 minutes", data=["none"],
    )  # fmt: skip
    return config, CausalObjective(Windows(), setup.length, document_mask=False), settings


def work_of(setup: Setup) -> Any:
    from arriero.training.traced import Work
    from arriero.tuning.adapt import adapter_setup

    config, objective, settings = parts(setup)
    return Work(config, objective, settings, settings.precision, adapter_setup(settings, 0))


def predict(setup: Setup, trial_seconds: float) -> dict[str, Any]:
    """The plan of the run, with a trial before it where seconds are given for one."""
    from arriero.recipe.calibration import usable_profile
    from arriero.training.plan import plan_training, run_load
    from arriero.training.trial import collecting, measure

    profile = usable_profile(lambda line: print(line, file=sys.stderr))
    work = work_of(setup)
    load = run_load(work.settings, work.objective, None, 0)
    if trial_seconds:
        with collecting() as trials:
            plan_training(work, load, profile)
        for trial in trials:
            rates = profile.rates | measure(trial, profile, budget_s=trial_seconds)
            profile = profile.model_copy(update={"rates": rates})
    estimate = plan_training(work, load, profile)
    return {name: getattr(estimate, name).model_dump() for name in ("seconds", "peak_memory", "flops")}


def measure_run(setup: Setup) -> dict[str, float]:
    """The run itself, as a stage would do it."""
    from training_contenders import _Context, peak_mib, reset_peak

    from arriero.artifacts.host import usable_cores
    from arriero.models.checkpoint import save_model
    from arriero.models.decoder import Decoder
    from arriero.training import loop
    from arriero.training.objectives.base import Shape
    from arriero.training.precision import Arithmetic
    from arriero.training.traced import TracedFlops, gradient_flops

    # a run comes after its plan, in one process: what planning loads is there
    gradient_flops(work_of(SETUPS[0]), Shape(1, 16, 16))
    started = time.perf_counter()
    reset_peak()
    work = work_of(setup)
    model = Decoder(work.config)
    model.init_weights(0)
    work.adapt(model)
    model.train()
    with tempfile.TemporaryDirectory() as root:
        loop.train(
            model, work.objective, work.settings, _Context(Path(root)), flops=TracedFlops(work),
            arithmetic=Arithmetic(work.precision, work.settings.threads or usable_cores()),
        )  # fmt: skip
        if not setup.lora_rank:  # of which the plan of a stage counts the adapters alone
            save_model(model, Path(root) / "model")
    return {"seconds": time.perf_counter() - started, "peak_memory": peak_mib() * 2**20}


def child(what: str, setup: Setup, *more: str) -> Any:
    command = [sys.executable, __file__, "--child", what, json.dumps(asdict(setup)), *more]
    env = {TUNABLES: NO_SMALL_CACHE, **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise SystemExit(f"{setup.name}: {done.stderr.strip()}")


def compare(setup: Setup, wanted_s: float, trial_seconds: float, rounds: int) -> dict[str, Any]:
    """Plan, then run, so many times; the numbers of both sides."""
    per_step = predict_steps(setup, trial_seconds)
    setup = Setup(**{**asdict(setup), "steps": max(4, round(wanted_s / per_step))})
    pairs = []
    for number in range(rounds):
        pairs.append((child("predict", setup, str(trial_seconds)), child("measure", setup)))
        show(setup, *pairs[-1], f"round {number + 1}" if rounds > 1 else "")
    predicted = {
        name: {key: statistics.mean(plan[name][key] for plan, _ in pairs) for key in ("low", "value", "high")}
        for name in LIMITS
    }
    measured = {name: statistics.mean(run[name] for _, run in pairs) for name in LIMITS}
    if rounds > 1:
        show(setup, predicted, measured, "mean")
    each = [errors_of(plan, run) for plan, run in pairs]
    return {
        "name": setup.name, "steps": setup.steps, "errors": errors_of(predicted, measured), "rounds": each, "measured": measured,
    }  # fmt: skip


def errors_of(predicted: dict[str, Any], measured: dict[str, float]) -> dict[str, float]:
    return {name: predicted[name]["value"] / measured[name] - 1 for name in LIMITS}


def show(setup: Setup, predicted: dict[str, Any], measured: dict[str, float], which: str) -> None:
    errors = errors_of(predicted, measured)
    inside = all(predicted[name]["low"] <= measured[name] <= predicted[name]["high"] for name in LIMITS)
    print(
        f"{setup.name:20} {setup.steps:5} steps   {predicted['seconds']['value']:6.1f} / {measured['seconds']:6.1f} s "
        f"{errors['seconds']:+6.1%}   {predicted['peak_memory']['value'] / 2**20:6.0f} / {measured['peak_memory'] / 2**20:6.0f} MiB "
        f"{errors['peak_memory']:+6.1%}   {'inside' if inside else 'outside the band'}   {which}".rstrip(),
        flush=True,
    )


def predict_steps(setup: Setup, trial_seconds: float) -> float:
    """Seconds of one step, roughly, to choose how many are run."""
    one, many = (Setup(**{**asdict(setup), "steps": n}) for n in (10, 20))
    seconds = [child("predict", other, "0")["seconds"]["value"] for other in (one, many)]
    return max(1e-3, (seconds[1] - seconds[0]) / 10)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--trial-seconds", type=float, default=8.0)
    parser.add_argument("--no-trials", action="store_true")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    setups = SETUPS if options.seed is None else drawn(options.seed)
    setups = [setup for setup in setups if not options.only or setup.name in options.only]
    rows = [
        compare(setup, options.seconds, 0.0 if options.no_trials else options.trial_seconds, options.rounds)
        for setup in setups
    ]
    for name, (mean, worst) in LIMITS.items():
        errors = [abs(row["errors"][name]) for row in rows]
        single = [abs(errors[name]) for row in rows for errors in row["rounds"]]
        print(
            f"{name}: mean error {statistics.mean(errors):.1%} (wanted {mean:.0%}), worst {max(errors):.1%} (wanted {worst:.0%})"
            + f"; of single rounds {statistics.mean(single):.1%} and {max(single):.1%}" * (options.rounds > 1)
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        given = Setup(**json.loads(sys.argv[3]))
        result = predict(given, float(sys.argv[4])) if sys.argv[2] == "predict" else measure_run(given)
        print("RESULT " + json.dumps(result))
    else:
        main()
