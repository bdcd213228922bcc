"""Predicted beside measured on a GPU: twelve configurations of 0.1 to 3 billion parameters, training and decoding.

    python benchmarks/cost_gpu.py [--only NAME ...] [--seconds 6] [--trial-seconds 6] [--save] [--device cuda|cpu]

First all predictions are made and printed: of training steps from real steps at two shallow depths (training.device_trial,
which `arriero calibrate` uses on a GPU) and the traced step; of decoding from the trial that `arriero calibrate MODEL`
makes (planning.serving.trial). Only then is anything measured. Seconds are those of a step, memory the allocator's peak
(torch.cuda.max_memory_allocated), energy the device's own counter (NVML). Wanted: seconds within 10 % on average and 20 % at
worst, memory within 5 %, energy within 15 %. The last line is JSON; --save writes it to
benchmarks/results/<date>-<device>.json. Ends with status 0 where all is kept, 1 where not, 2 where there is no GPU.
``--device cpu`` goes through the same code with tiny models, as a rehearsal: its figures judge nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import arriero  # noqa: F401 - before torch: it tells waiting threads to sleep

# isort: split
import torch

from arriero.cost.counters_energy import CounterUnavailable
from arriero.cost.counters_nvml import NvmlCounter
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.serving import trial as serving
from arriero.training.device_trial import Joules, measure_step, predict_step
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.traced import Work
from arriero.tuning.adapt import AdaptSettings, adapter_setup

LIMITS = {"seconds": (0.10, 0.20), "memory": (0.05, 0.05), "energy": (0.15, 0.15)}
"""Mean and worst relative error that are wanted."""
SPREAD, ENERGY_SPREAD, MEMORY_SPREAD = 0.10, 0.15, 0.05
"""Least half-widths of what is predicted."""
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setup:
    """A configuration; ``batch`` above 0: decoding that many answers at a time, else a training step of ``rows``."""

    name: str
    size: str
    vocabulary: int
    context: int
    rows: int = 0
    recompute: str = "none"
    compile: bool = False
    lora_rank: int = 0
    batch: int = 0


SIZES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 64, "n_layers": 6, "n_heads": 4, "n_kv_heads": 2, "d_ff": 176},
    "0.1B": {"d_model": 768, "n_layers": 12, "n_heads": 12, "n_kv_heads": 12, "d_ff": 2048},
    "0.4B": {"d_model": 1024, "n_layers": 24, "n_heads": 16, "n_kv_heads": 8, "d_ff": 4096},
    "1B": {"d_model": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "d_ff": 8192},
    "3B": {"d_model": 3072, "n_layers": 28, "n_heads": 24, "n_kv_heads": 8, "d_ff": 8192},
}
SETUPS = [
    Setup("0.1B 32k", "0.1B", 32000, 1024, rows=16),
    Setup("0.1B 128k compile", "0.1B", 128256, 1024, rows=16, compile=True),
    Setup("0.4B 32k", "0.4B", 32000, 2048, rows=8),
    Setup("0.4B 32k long selective", "0.4B", 32000, 8192, rows=2, recompute="selective"),
    Setup("1B 128k full", "1B", 128256, 4096, rows=4, recompute="full"),
    Setup("1B 128k compile", "1B", 128256, 2048, rows=6, compile=True),
    Setup("3B 32k full", "3B", 32000, 2048, rows=4, recompute="full"),
    Setup("3B 128k LoRA", "3B", 128256, 4096, rows=2, lora_rank=16),
    *(Setup(f"1B decode {n}", "1B", 128256, 2048, batch=n) for n in (1, 6, 12, 24)),
]
REHEARSAL = [
    Setup("tiny", "tiny", 500, 64, rows=4),
    Setup("tiny full", "tiny", 500, 64, rows=4, recompute="full"),
    Setup("tiny LoRA selective", "tiny", 500, 64, rows=4, recompute="selective", lora_rank=4),
    *(Setup(f"tiny decode {n}", "tiny", 500, 128, batch=n) for n in (1, 3)),
]


def config_of(setup: Setup) -> DecoderConfig:
    return DecoderConfig(
        **SIZES[setup.size], vocab_size=setup.vocabulary, context_length=setup.context, tie_embeddings=True
    )


# ---------------------------------------------------------------- training


def work_of(setup: Setup, device: str) -> tuple[Work, list[Shape]]:
    """What is trained, as the pretrain and sft stages would say it, and the shape of its micro-batch."""
    settings = AdaptSettings(
        data=["none"], duration="1 steps", batch_size=setup.rows, micro_batch_size=setup.rows, device=device,
        precision="bf16" if device == "cuda" else "fp32", activation_checkpointing=setup.recompute, compile=setup.compile,
        lora_rank=setup.lora_rank,
    )  # fmt: skip
    objective = CausalObjective(PlannedWindows(setup.rows, setup.context), setup.context, document_mask=False)
    work = Work(config_of(setup), objective, settings, settings.precision, adapter_setup(settings, 0))  # type: ignore[arg-type]
    return work, [Shape(setup.rows, setup.context, setup.rows * setup.context)]


def predict_training(setup: Setup, options: argparse.Namespace, joules: Joules | None) -> dict[str, Any]:
    work, shapes = work_of(setup, options.device)
    found = predict_step(work, shapes, options.device, budget_s=options.trial_seconds, joules=joules)
    return {
        "seconds": band(found.seconds, max(SPREAD, 2 * found.spread)),
        "memory": band(found.peak_bytes, MEMORY_SPREAD), "energy": band(found.joules, ENERGY_SPREAD),
        "trials": {depth: asdict(one) for depth, one in found.trials.items()},
    }  # fmt: skip


def measure_training(
    setup: Setup, options: argparse.Namespace, joules: Joules | None
) -> dict[str, float | None]:
    work, shapes = work_of(setup, options.device)
    found = measure_step(work, work.config, shapes, options.device, budget_s=options.seconds, joules=joules)
    return {"seconds": found.seconds, "memory": found.peak_bytes, "energy": found.joules}


def band(middle: float | None, spread: float) -> dict[str, float] | None:
    return None if middle is None else {"low": middle * (1 - spread), "mid": middle, "high": middle * (1 + spread)}  # fmt: skip


# ---------------------------------------------------------------- decoding


KEPT = 0.5
"""Share of the context that each answer has behind it where its steps are measured."""


def shape_of(setup: Setup) -> serving.Shape:
    return serving.Shape(config_of(setup), "bf16", torch.get_num_threads())


def predict_decoding(
    setup: Setup, options: argparse.Namespace, rates: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """From one trial of the model's shape, made once for all numbers of answers."""
    shape = shape_of(setup)
    if shape.key not in rates:
        rates[shape.key] = serving.measure(
            shape, budget_s=max(2.0, options.trial_seconds), device=options.device
        )
    trial = serving.trial_of(SimpleNamespace(rates=rates[shape.key]), shape)  # type: ignore[arg-type]
    assert trial is not None
    seconds = trial.decode(KEPT * setup.context, setup.batch)
    return {"seconds": band(seconds, max(SPREAD, trial.spread)), "memory": None, "energy": None}


def measure_decoding(setup: Setup, options: argparse.Namespace) -> dict[str, float | None]:
    seconds = serving.step_seconds(
        shape_of(setup), setup.batch, round(KEPT * setup.context), budget_s=options.seconds, device=options.device
    )  # fmt: skip
    return {"seconds": seconds, "memory": None, "energy": None}


# ---------------------------------------------------------------- both


def predict_all(setups: list[Setup], options: argparse.Namespace, joules: Joules | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rates: dict[str, dict[str, Any]] = {}
    for setup in setups:
        one = (
            predict_decoding(setup, options, rates)
            if setup.batch
            else predict_training(setup, options, joules)
        )
        found[setup.name] = one
        print(f"predicted  {setup.name:26} {words(one)}", flush=True)
    return found


def words(one: dict[str, Any]) -> str:
    """A prediction, low to high."""
    units = {"seconds": (1e3, "ms"), "memory": (2.0**-30, "GiB"), "energy": (1.0, "J")}
    return "   ".join(
        f"{one[name]['low'] * scale:.4g} – {one[name]['mid'] * scale:.4g} – {one[name]['high'] * scale:.4g} {unit}"
        for name, (scale, unit) in units.items()
        if one[name] is not None
    )


def compare(setup: Setup, predicted: dict[str, Any], measured: dict[str, float | None]) -> dict[str, Any]:
    errors = {
        name: predicted[name]["mid"] / value - 1
        for name, value in measured.items()
        if value is not None and predicted[name] is not None
    }
    inside = {
        name: predicted[name]["low"] <= measured[name] <= predicted[name]["high"]  # type: ignore[operator]
        for name in errors
    }
    units = {"seconds": (1e3, "ms"), "memory": (2.0**-30, "GiB"), "energy": (1.0, "J")}
    cells = [
        f"{predicted[name]['mid'] * units[name][0]:9.4g} / {measured[name] * units[name][0]:9.4g} {units[name][1]:3} {error:+6.1%}"  # type: ignore[operator]
        for name, error in errors.items()
    ]
    print(f"{setup.name:26} {'   '.join(cells)}   {'inside' if all(inside.values()) else 'outside the band'}", flush=True)  # fmt: skip
    return {
        "name": setup.name, "setup": asdict(setup), "predicted": predicted, "measured": measured, "errors": errors,
        "inside": inside,
    }  # fmt: skip


def verdict(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and worst error of each quantity, beside what is wanted; kept is None where nothing was measured."""
    found: dict[str, dict[str, Any]] = {}
    for name, (mean, worst) in LIMITS.items():
        errors = [abs(row["errors"][name]) for row in rows if name in row["errors"]]
        if not errors:
            found[name] = {"mean": None, "worst": None, "kept": None}
            print(f"{name:8} unknown: nothing here measures it")
            continue
        middle, most = statistics.mean(errors), max(errors)
        found[name] = {"mean": middle, "worst": most, "kept": middle <= mean and most <= worst}
        print(
            f"{name:8} mean error {middle:.1%} (wanted {mean:.0%}), worst {most:.1%} (wanted {worst:.0%}), {len(errors)} configurations"
        )
    return found


def nvml_joules(find: Callable[[], Any] = NvmlCounter.find) -> tuple[Joules | None, str]:
    """The device's own counter of joules, or why there is none."""
    try:
        counter = find()
    except CounterUnavailable as error:
        return None, f"energy is unknown: {error}"
    if counter.basis != "measured":
        return None, "energy is unknown: the device tells its power and counts no joules"

    def joules(now: float) -> float | None:
        energy = counter.observe(now)
        return None if energy is None else energy.counted + energy.filled

    return joules, "energy by the device's own counter (NVML)"


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "processor, a rehearsal"


def save(result: dict[str, Any], folder: Path | None = None) -> Path:
    """Write a result under its date and device; a second of one day gets a number."""
    slug = re.sub(r"[^a-z0-9]+", "-", result["device"].lower()).strip("-")
    folder = RESULTS if folder is None else folder
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        f"{result['date']}-{slug}{'' if number == 1 else f'-{number}'}.json" for number in range(1, 1000)
    )
    path = next(folder / name for name in names if not (folder / name).exists())
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="configurations whose names hold this")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=6.0, help="of measured steps for each configuration")
    parser.add_argument("--trial-seconds", type=float, default=6.0, help="of calibrating steps for each")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "there is no GPU here: torch sees no CUDA device, so nothing was measured (--device cpu rehearses)"
        )
        return 2
    setups = [
        setup for setup in (SETUPS if options.device == "cuda" else REHEARSAL)
        if not options.only or any(part in setup.name for part in options.only)
    ]  # fmt: skip
    if not setups:
        print(f"no configuration's name holds {', '.join(options.only)}")
        return 2
    started = time.perf_counter()
    if options.device == "cuda":
        torch.cuda.init()
    joules, said = nvml_joules() if options.device == "cuda" else (None, "energy is unknown: no GPU is used")
    print(f"{device_name(options.device)}, torch {torch.__version__}; {said}")
    predicted = predict_all(setups, options, joules)
    rows = [
        compare(setup, predicted[setup.name], measure_decoding(setup, options) if setup.batch else measure_training(setup, options, joules))
        for setup in setups
    ]  # fmt: skip
    result = {
        "benchmark": "cost_gpu", "device": device_name(options.device), "date": datetime.date.today().isoformat(),
        "torch": torch.__version__, "seconds": math.ceil(time.perf_counter() - started), "verdict": verdict(rows),
        "limits": LIMITS, "rows": rows,
    }  # fmt: skip
    if options.save:
        print(f"written to {save(result)}")
    print(json.dumps(result))
    if options.device == "cpu":
        return 0
    return 0 if all(one["kept"] in (True, None) for one in result["verdict"].values()) else 1  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
