"""What an evaluation will take: the scorer's own forward pass, traced on fake tensors and priced."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median
from typing import Any

import torch

from arriero.cost.device import DeviceProfile, Rate
from arriero.cost.roofline import seconds
from arriero.cost.trace import Trace, trace
from arriero.evaluation.bits_per_byte import default_stride
from arriero.models.config import ModelConfig
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import get_family
from arriero.models.layers.quantized import WeightScheme, use_quantized_layers
from arriero.models.scoring import TOKENS_PER_BATCH, batch_logprobs

PASS_RATE = "evaluate.passes_per_s"
PROBE_CONFIG = DecoderConfig(
    vocab_size=4096,
    d_model=192,
    n_layers=4,
    n_heads=4,
    n_kv_heads=2,
    head_dim=48,
    d_ff=512,
    context_length=256,
)
PROBE_ROWS = 16
_PROBE_SECONDS, _PROBE_SPREAD = 2.0, 0.25
"""How long passes are measured; and the least that a later hour differs from such a moment."""


@dataclass(frozen=True)
class Pass:
    """One forward pass of ``rows`` rows of ``length`` tokens."""

    seconds: float
    flops: float
    peak_bytes: float


def batch_rows(length: int) -> int:
    """Rows of that length that the scorer takes at once."""
    return max(1, TOKENS_PER_BATCH // max(1, length))


def weight_scheme(format: str, config: DecoderConfig) -> WeightScheme | None:
    """How a model of that format holds its weights. The group size hardly counts: any that fits will do."""
    if not format.startswith("int"):
        return None
    bits = int(format.removeprefix("int"))
    fits = all(width % 32 == 0 for width in (config.d_model, config.d_ff, config.n_heads * config.head_dim))
    return WeightScheme(bits, 32 if bits == 4 and fits else None)


def config_of(values: dict[str, Any]) -> ModelConfig:
    """The configuration that a model's spec holds, of whatever family."""
    return get_family(values.get("family", "llama")).config.parse(values, "the model's spec")


def forward_pass(
    config: ModelConfig, format: str, rows: int, length: int, device: DeviceProfile | None
) -> Pass:
    """The pass of a model; a decoder of any depth from traces at one and two blocks: blocks are equal, so all is
    linear in them. Without a device, seconds are 0."""
    if not isinstance(config, DecoderConfig):
        found = _traced(config, format, rows, length)
        return Pass(seconds(found, device) if device else 0.0, found.flops, found.peak_bytes)
    one, two = (_traced(config.model_copy(update={"n_layers": n}), format, rows, length) for n in (1, 2))
    more = config.n_layers - 1
    times = [seconds(found, device) if device else 0.0 for found in (one, two)]
    return Pass(
        seconds=times[0] + more * (times[1] - times[0]),
        flops=one.flops + more * (two.flops - one.flops),
        peak_bytes=one.peak_bytes + more * (two.peak_bytes - one.peak_bytes),
    )


def row_flops(config: ModelConfig, format: str) -> Callable[[int], float]:
    """FLOPs of a row of T tokens: ``a T + b T²`` exactly, with the two factors from two traces."""
    near, far = 8, 16
    x, y = (forward_pass(config, format, 1, n + 1, None).flops / n for n in (near, far))
    b = (y - x) / (far - near)
    a = x - b * near
    return lambda tokens: a * (tokens - 1) + b * (tokens - 1) ** 2


@lru_cache(maxsize=64)
def _traced(config: ModelConfig, format: str, rows: int, length: int) -> Trace:
    def make() -> list[Any]:
        model = get_family(config.family).build(config)
        scheme = weight_scheme(format, config) if isinstance(config, DecoderConfig) else None
        if scheme is not None:
            use_quantized_layers(model, scheme)
        return [model, torch.zeros(rows, length, dtype=torch.int64)]

    def run(state: list[Any]) -> None:
        with torch.inference_mode():
            batch_logprobs(state[0], state[1])

    return trace(make, run)


def expected_window_tokens(mean_length: float, context: int, stride: int | None = None) -> float:
    """Expected tokens in the windows over a document, when only the mean length is known.

    Lengths are taken to be exponentially distributed: E[min(L, C)] for the first window, and C for every further
    one, of which there are sum_k P(L > C + k S).
    """
    step = stride or default_stride(context)
    first = mean_length * -math.expm1(-context / mean_length)
    further = math.exp(-context / mean_length) / -math.expm1(-step / mean_length)
    return first + context * further


def measure_passes() -> Rate:
    """Passes per second of a known model through the real scorer."""
    model = Decoder(PROBE_CONFIG)
    model.init_weights(0)
    length = PROBE_CONFIG.context_length
    ids = torch.randint(
        0, PROBE_CONFIG.vocab_size, (PROBE_ROWS, length), generator=torch.Generator().manual_seed(0)
    )
    rows = ids.tolist()
    times: list[float] = []
    deadline = time.perf_counter() + _PROBE_SECONDS
    while len(times) < 4 or time.perf_counter() < deadline:
        start = time.perf_counter()
        model.token_logprobs(rows)
        times.append(time.perf_counter() - start)
    mean = fmean(times[1:])  # and not the median: a run has its slow moments too
    usual = median(abs(taken / mean - 1) for taken in times[1:])
    return Rate(per_s=1 / mean, spread=max(_PROBE_SPREAD, 2 * usual), unit="passes")


def forward_ratio(device: DeviceProfile) -> Rate | None:
    """Seconds of the known model's real pass over its priced trace, with the probe's spread; None if not measured."""
    rate = device.rate(PASS_RATE)
    if rate is None:
        return None
    priced = forward_pass(PROBE_CONFIG, "float32", PROBE_ROWS, PROBE_CONFIG.context_length, device).seconds
    return Rate(per_s=1 / rate.per_s / priced, spread=rate.spread, unit="x")
