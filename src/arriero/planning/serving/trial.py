"""Trials of answering: real steps of the engine's runner over a model of the very shape in question, with random weights.

A step of decoding takes ``fixed + layers (block + tokens kept x pair)`` seconds at each number of answers at a time; a
prompt's pass the same with the prompt's own pairs. Two depths tell the layers from the rest, two lengths the pairs from
the block. Small models are measured as they are; of larger ones so many layers are that their weights are far beyond
the caches, as the whole model's are. `arriero calibrate MODEL` makes the trial and keeps it in the device profile;
`arriero estimate --serve` and `arriero bench` use it in place of the formula.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from arriero.artifacts.hashing import sha256_json
from arriero.cost.device import DeviceProfile, Rate
from arriero.cost.time.coefficients import Coefficients
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.subject import PACKED_BITS, Held
from arriero.planning.estimate.device_source import Device
from arriero.planning.estimate.model_source import ModelSource

if TYPE_CHECKING:
    from arriero.models.decoder import Decoder

BATCHES = (1, 2, 4, 8, 16, 32)
"""Answers at a time that are measured; between them is interpolated."""
SPREAD = 0.08
"""Least half-width of what a trial tells."""
MOST_BYTES = 512 << 20
"""Of the weights that are drawn for a trial: many times any cache, and made in seconds."""
POOL_BYTES = 512 << 20
"""Of the keys and values, as float32, of a trial with many answers at a time."""
_LEAST_STEPS = 3
_TURNS = 10
"""Turns into which a budget is dealt, where steps are so quick."""
_WIDTHS: dict[Held, int] = {"fp32": 4, "bf16": 2}
_UNIT = "s"
_NORMAL_80 = 1.28
"""Standard deviations of a normal spread within which 80 % of it lies."""


@dataclass(frozen=True)
class Shape:
    """What a trial is of: the model's shape, and how its weights are held."""

    config: DecoderConfig
    held: Held
    threads: int

    @property
    def key(self) -> str:
        """Beginning of the names of the trial's rates in a device profile: equal for equal shapes."""
        said = {
            "model": self.config.model_dump(mode="json"),
            "held": self.held,
            "threads": self.threads,
        }
        return f"serving.{sha256_json(said)[:16]}"


@dataclass(frozen=True)
class Point:
    """Runs of the model: ``rows`` sequences of which each runs ``tokens`` tokens beside ``kept`` ones."""

    rows: int
    tokens: int
    kept: int


@dataclass(frozen=True)
class ServingTrial:
    """What was measured, seconds.

    Attributes:
        batches: answers at a time, ascending. step, pair: seconds of a step without kept tokens, and for each token kept
            by each answer. prompt: seconds of a prompt's token, and of each pair of its tokens.
        spread: relative half-width.
    """

    batches: tuple[int, ...]
    step: tuple[float, ...]
    pair: tuple[float, ...]
    prompt: tuple[float, float]
    spread: float

    def decode(self, context: float, batch: float) -> float:
        """Seconds of one step for ``batch`` answers of ``context`` tokens each."""
        return self._at(self.step, batch) + context * self._at(self.pair, batch)

    def prefill(self, tokens: float, batch: float = 1) -> float:
        """Seconds to read ``batch`` prompts of ``tokens`` tokens, one after the other."""
        return batch * (tokens * self.prompt[0] + tokens**2 * self.prompt[1])

    def told_by(self, coefficients: Coefficients) -> Coefficients:
        """The same with this trial's tier and band, for the words around a figure."""
        return replace(coefficients, tier="calibrated", spread=self.spread / _NORMAL_80)

    def _at(self, values: Sequence[float], batch: float) -> float:
        """Straight between what was measured, and on along the last piece."""
        if batch <= self.batches[-1] or len(self.batches) == 1:
            return float(np.interp(batch, self.batches, values))
        slope = (values[-1] - values[-2]) / (self.batches[-1] - self.batches[-2])
        return values[-1] + max(slope, 0.0) * (batch - self.batches[-1])


def trial_of(device: DeviceProfile, shape: Shape) -> ServingTrial | None:
    """What a trial of this shape found on this machine; None where none was made."""
    found = {name: rate for name, rate in device.rates.items() if name.startswith(f"{shape.key}.")}
    return trial_in(found) if found else None


def trial_here(device: Device, model: ModelSource, held: Held) -> ServingTrial | None:
    """What was measured of such a model where ``device`` is this machine; None where nothing was."""
    if device.profile is None or not isinstance(model.config, DecoderConfig):
        return None
    return trial_of(device.profile, Shape(model.config, held, device.profile.threads))


def trial_in(rates: Mapping[str, Rate]) -> ServingTrial:
    """The trial that :func:`measure` gave these rates for."""
    found = {name.partition(".")[2].partition(".")[2]: rate for name, rate in rates.items()}
    batches = tuple(sorted(int(name[5:]) for name in found if name.startswith("step.")))
    return ServingTrial(
        batches,
        tuple(found[f"step.{n}"].per_s for n in batches),
        tuple(found[f"pair.{n}"].per_s for n in batches),
        (found["prompt"].per_s, found["prompt_pair"].per_s),
        max(rate.spread for rate in found.values()),
    )


def measure(
    shape: Shape, *, budget_s: float = 20.0, clock: Callable[[], float] = time.perf_counter, device: str = "cpu"
) -> dict[str, Rate]:  # fmt: skip
    """Run the model's shape at all points by turns until the budget is spent; the rates to keep in a device profile.

    Args:
        budget_s: wall seconds; drawing the weights and the first run of each point come on top.
        device: cpu or cuda, where the model runs.
    """
    points = _points(shape.config)
    depths = _depths(shape)
    runs = {depth: _Runs(shape, depth, points, device) for depth in depths}
    times: dict[tuple[int, Point], list[float]] = {(d, p): [] for d in depths for p in points}
    # in a turn quick steps run many times, so that a slow one does not count for all
    share = budget_s / (_TURNS * len(times))
    until = clock() + budget_s
    while clock() < until or min(map(len, times.values())) < _LEAST_STEPS:
        for (depth, point), seconds in times.items():
            seconds.append(runs[depth].seconds(point, clock))
            turn = clock() + share - seconds[-1]
            while clock() < turn:
                seconds.append(runs[depth].seconds(point, clock))
    return _rates(shape, points, times)


def step_seconds(
    shape: Shape, batch: int, kept: int, *, budget_s: float = 5.0, clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
) -> float:  # fmt: skip
    """Median seconds of a real step of the whole model that gives each of ``batch`` answers a token beside ``kept``."""
    point = Point(batch, 1, kept)
    runs = _Runs(shape, shape.config.n_layers, [point], device)
    times, until = [runs.seconds(point, clock)], clock() + budget_s
    while clock() < until or len(times) < _LEAST_STEPS:
        times.append(runs.seconds(point, clock))
    return float(np.median(times))


def _points(config: DecoderConfig) -> list[Point]:
    decoding = [Point(rows, 1, kept) for rows in BATCHES for kept in _lengths(config, rows)]
    return [*decoding, *(Point(1, tokens, 0) for tokens in _prompts(config))]


def _lengths(config: DecoderConfig, rows: int) -> tuple[int, int]:
    """Tokens kept by each of so many answers: few, and as many as a pool of moderate size holds, 1,024 at most."""
    longest = min(config.context_length, 1025) - 1
    near = max(1, longest // 8)
    held = POOL_BYTES // (rows * config.kv_bytes_per_token(4))
    return near, max(min(longest, 2 * near), min(longest, held))


def _prompts(config: DecoderConfig) -> tuple[int, int]:
    longest = min(config.context_length, 512)
    return max(1, longest // 4), longest


def _depths(shape: Shape) -> list[int]:
    """The model's own number of layers where it is small, else two smaller ones."""
    config = shape.config
    layers = config.n_layers
    parts = config.parameter_counts()
    width = PACKED_BITS[shape.held] / 8 if shape.held in PACKED_BITS else _WIDTHS[shape.held]
    block = sum(count for name, count in parts.items() if name not in ("embedding", "head")) / layers * width
    most = max(2, int(MOST_BYTES // max(block, 1)))
    return [layers] if layers <= most else [most // 2, most]


def _rates(shape: Shape, points: list[Point], times: dict[tuple[int, Point], list[float]]) -> dict[str, Rate]:
    middle = {key: float(np.median(seconds)) for key, seconds in times.items()}
    spread = max(SPREAD, float(np.median([_noise(seconds) for seconds in times.values()])))
    whole = {point: _at_depth(shape.config.n_layers, point, middle) for point in points}
    found: dict[str, float] = {}
    for rows in BATCHES:
        near, far = _lengths(shape.config, rows)
        low, high = whole[Point(rows, 1, near)], whole[Point(rows, 1, far)]
        pair = max(0.0, (high - low) / (far - near)) if far > near else 0.0
        found |= {f"step.{rows}": max(low - near * pair, 0.0), f"pair.{rows}": pair}
    short, long = _prompts(shape.config)
    a, b = whole[Point(1, short, 0)] / short, whole[Point(1, long, 0)] / long
    pair = max(0.0, (b - a) / (long - short)) if long > short else 0.0
    found |= {"prompt": a - short * pair, "prompt_pair": pair}
    return {
        f"{shape.key}.{name}": Rate(per_s=value, spread=spread, unit=_UNIT) for name, value in found.items()
    }


def _noise(seconds: list[float]) -> float:
    """Relative half-width of the middle half of the runs."""
    low, middle, high = np.percentile(seconds, [25, 50, 75])
    return float((high - low) / 2 / middle)


def _at_depth(layers: int, point: Point, middle: dict[tuple[int, Point], float]) -> float:
    """Along the straight line through the depths that were measured."""
    found = sorted((depth, seconds) for (depth, other), seconds in middle.items() if other == point)
    (shallow, less), (deep, more) = found[0], found[-1]
    if deep == shallow:
        return more
    return max(more, less + (more - less) / (deep - shallow) * (layers - shallow))


class _Runs:
    """A model of one depth, its runner and a pool that holds whatever the points want."""

    def __init__(self, shape: Shape, depth: int, points: list[Point], device: str = "cpu") -> None:
        import torch

        from arriero.inference.kv_pool import BLOCK, blocks_of
        from arriero.inference.memory import make_pool
        from arriero.inference.runners import make_runner

        model = drawn_model(shape, depth, device)
        self._vocab_size = shape.config.vocab_size
        most = max(p.rows * blocks_of(p.kept + p.tokens) for p in points)
        pool = make_pool(model, 1, most * BLOCK, "auto")
        for kept in (
            pool.keys,
            pool.values,
        ):  # memory that was never written reads otherwise than memory that was
            kept.copy_(torch.ones_like(kept[:1, :1]).expand_as(kept))
        self._blocks = list(range(most))
        self._runner = make_runner("auto", model, pool, None)
        for point in points:
            self.seconds(point, time.perf_counter)

    def seconds(self, point: Point, clock: Callable[[], float]) -> float:
        """Of one run, the choice of the likeliest tokens with it."""
        from arriero.inference.kv_pool import blocks_of
        from arriero.inference.rows import Rows

        rows, each = Rows(), blocks_of(point.kept + point.tokens)
        for number in range(point.rows):
            ids = [(31 * number + 7 * i) % self._vocab_size for i in range(point.tokens)]
            blocks = self._blocks[number * each : (number + 1) * each]
            rows.add(ids, point.kept, blocks, [point.tokens - 1])
        started = clock()
        self._runner.run(rows).argmax(-1).tolist()
        return clock() - started


def drawn_model(shape: Shape, depth: int, device: str = "cpu") -> Decoder:
    """A decoder of the shape with ``depth`` layers and random weights, held as the shape says."""
    import torch

    from arriero.compression.quantize import QuantizeSettings
    from arriero.compression.rounding import quantize_model
    from arriero.models.decoder import Decoder
    from arriero.training.device_trial import draw_weights

    config = shape.config.model_copy(update={"n_layers": depth})
    with torch.device(device):
        model = Decoder(config)
    if device == "cpu":
        model.init_weights(0)
    else:  # a processor would take minutes over billions
        draw_weights(model, torch.Generator(device).manual_seed(0))
    if shape.held in PACKED_BITS:
        scheme = QuantizeSettings(scheme=shape.held).weight_scheme(model.config)
        quantize_model(model, scheme, torch.bfloat16)
    return model.to(torch.float32 if shape.held == "fp32" else torch.bfloat16).eval()
