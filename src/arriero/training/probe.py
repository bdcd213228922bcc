"""What a real training step takes on this machine, beside what its trace is priced at.

The roofline knows single operations; a step has them in a row, warm caches and cold ones, and Python in between.
The ratio of a real step of one known model to its priced trace carries all of that over to other models.
"""

from __future__ import annotations

import tempfile
import time
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from arriero.cost.device import DeviceProfile, Rate
from arriero.models.decoder_config import DecoderConfig
from arriero.training.precision import Precision
from arriero.training.settings import TrainSettings

CONFIG = DecoderConfig(
    vocab_size=2048,
    d_model=192,
    n_layers=3,
    n_heads=4,
    n_kv_heads=2,
    head_dim=48,
    d_ff=512,
    context_length=256,
)
ROWS = 8
STEP_RATE, CHECKPOINT_RATE = "pretrain.steps.{dtype}", "pretrain.checkpoint_bytes"
CHECKPOINT_BLOCKED_RATE = "pretrain.checkpoint_blocked_bytes"
DTYPES: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16"}
_SECONDS = 1.0
_STEPS, _MOST_SECONDS = 4, 4.0
"""Steps at least, where they do not take longer than that together: bf16 without instructions for it may take seconds a step."""
_LEAST_SPREAD = 0.1
_SAVES = 5
"""Of which the first is left out."""


def measure() -> dict[str, Rate]:
    """Steps per second of the known model in fp32 and bf16, and bytes per second of a checkpoint."""
    rates = {}
    for dtype, precision in DTYPES.items():
        rates[STEP_RATE.format(dtype=dtype)] = _steps_per_s(precision)
    return rates | _starts_per_s() | _checkpoint_bytes_per_s()


def _starts_per_s() -> dict[str, Rate]:
    """Of tracing for the FLOP count, which a run begins with."""
    from arriero.training.objectives.base import Shape
    from arriero.training.objectives.causal import CausalObjective, PlannedWindows
    from arriero.training.start import START_RATE, counting_seconds, starts
    from arriero.training.traced import Work

    length = CONFIG.context_length
    objective = CausalObjective(PlannedWindows(1, length), length, document_mask=True)
    work = Work(CONFIG, objective, TrainSettings(), "fp32")
    return {START_RATE: starts(counting_seconds(work, Shape(1, length, length, masked=True)))}


def _steps_per_s(precision: Precision) -> Rate:
    import torch

    from arriero.cost.allocator import keep_freed_memory
    from arriero.models.decoder import Decoder
    from arriero.training.objectives.base import Shape
    from arriero.training.objectives.causal import CausalObjective, PlannedWindows
    from arriero.training.optimizers.clipping import clip_gradients
    from arriero.training.optimizers.make import make_optimizer
    from arriero.training.step import accumulate

    keep_freed_memory()
    model = Decoder(CONFIG)
    model.init_weights(0)
    objective = CausalObjective(
        PlannedWindows(ROWS, CONFIG.context_length), CONFIG.context_length, document_mask=True
    )
    length = CONFIG.context_length
    batch = objective.synthetic(Shape(ROWS, length, ROWS * length, masked=True))
    generator = torch.Generator().manual_seed(0)
    batch.ids.random_(CONFIG.vocab_size, generator=generator)
    batch.targets.random_(CONFIG.vocab_size, generator=generator)
    optimizer = make_optimizer(model, TrainSettings())
    parameters = list(model.parameters())
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begun < (
        _SECONDS if len(times) >= _STEPS else _MOST_SECONDS
    ):
        start = time.perf_counter()
        float(accumulate(model, objective, [batch], ROWS * length, precision)["loss"])
        clip_gradients(parameters, 1.0, optimizer)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    times = sorted(times[1:])  # the first step prepares the kernels
    middle = times[len(times) // 2]
    return Rate(per_s=1 / middle, spread=max(_LEAST_SPREAD, times[-1] / times[0] - 1), unit="steps")


def _checkpoint_bytes_per_s() -> dict[str, Rate]:
    """Of the real writer, in the folder for temporary files: until training may go on, and until all is done."""
    import torch

    from arriero.training.checkpoints.retention import Retention
    from arriero.training.checkpoints.store import CheckpointStore

    # as much as a small model's: of less, what each save takes anyway would be most
    state = {str(number): torch.ones(1 << 22) for number in range(8)}
    blocked, whole = [], []
    with tempfile.TemporaryDirectory(prefix="arriero-") as folder:
        store = CheckpointStore(Path(folder), Retention(1), lambda line: None)
        for step in range(_SAVES):
            start = time.perf_counter()
            store.save(step, state, {}, wait=False)
            blocked.append(time.perf_counter() - start)
            store.settle()
            whole.append(time.perf_counter() - start)
    size = sum(tensor.nbytes for tensor in state.values())
    return {CHECKPOINT_BLOCKED_RATE: _rate(size, blocked[1:]), CHECKPOINT_RATE: _rate(size, whole[1:])}


def _rate(size: int, times: list[float]) -> Rate:
    """Bytes per second; the first time, which imports torch's checkpoint, is left out by the caller. A disk is fast or slow by
    turns, so the mean counts: the median would be one of the two."""
    mean = fmean(times)
    return Rate(per_s=size / mean, spread=max(0.5, *(abs(t / mean - 1) for t in times)), unit="B")


@lru_cache(maxsize=8)
def _ratio(profile: str, dtype: str) -> float:
    from arriero.training.objectives.base import Shape
    from arriero.training.objectives.causal import CausalObjective, PlannedWindows
    from arriero.training.traced import Work, step_figures

    device = DeviceProfile.model_validate_json(profile)
    length = CONFIG.context_length
    objective = CausalObjective(PlannedWindows(ROWS, length), length, document_mask=True)
    work = Work(CONFIG, objective, TrainSettings(), DTYPES[dtype])
    priced = step_figures(work, [Shape(ROWS, length, ROWS * length, masked=True)], device).seconds
    return 1 / device.rates[STEP_RATE.format(dtype=dtype)].per_s / priced


def step_ratio(device: DeviceProfile, dtype: str) -> Rate | None:
    """Seconds of a real step over seconds of its priced trace, with the probe's spread; None when not measured."""
    rate = device.rate(STEP_RATE.format(dtype=dtype))
    if rate is None:
        return None
    return Rate(per_s=_ratio(device.model_dump_json(), dtype), spread=rate.spread, unit="x")
