"""Device-hours of a stranger's run: the time model, times what published runs took beyond it.

Nobody tells everything about a run: its kernels, restarts, evaluations and how often it was begun anew are in the hours.
So the model's figure is multiplied by what the published runs took beyond it,

    log(published / model) = a + b x max(0, 2022 - year),

fitted with small weight on outliers; b stands for the software before fused attention (May 2022). The 80 % band is the
80th percentile of these runs' own errors, each predicted from the others: wide, because strangers' runs are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.hardware.table import find
from arriero.cost.published.runs import PublishedRun, known_runs
from arriero.cost.quantity import Quantity
from arriero.cost.time.coefficients import prior
from arriero.cost.time.model import step_terms
from arriero.cost.time.shapes import Shape, workload_of_shape

_MODERN = 2022
_COVERED = 0.8
_SHARDED_UP_TO = 2e10
"""Parameters up to which a run is taken to shard states only; beyond, matrices are cut over the 8 devices of a node."""
_SOME_DEVICES = 256
_TOKENS_AT_ONCE = 8192
_PASSES = 8


def predict_hours(run: PublishedRun, learnt_from: Sequence[PublishedRun] | None = None) -> Quantity:
    """Device-hours with an 80 % band; a run of the same name is never learnt from.

    Raises:
        ArrieroError: the device is not known.
    """
    others = tuple(
        one
        for one in (known_runs() if learnt_from is None else learnt_from)
        if one.name != run.name and one.hours
    )
    ideal = model_hours(run)
    if ideal is None:
        return Quantity.unknown("h", f"the figures of {run.hardware} do not suffice")
    coefficients, width = _learnt(others)
    middle = ideal * math.exp(float(_features(run) @ np.array(coefficients)))
    source = f"time model x what {len(others)} published runs took beyond it; tier E, published"
    return Quantity.band(middle, math.exp(width) - 1, "h", "modelled", source)


def flat_hours(run: PublishedRun, utilisation: float = 0.4) -> float | None:
    """What a division gives: 6 N T over a share of the peak; None where the peak is unknown."""
    peak = find(run.hardware).peak("bf16") or find(run.hardware).peak("fp16")
    return None if peak is None else 6 * run.params * run.tokens / (utilisation * peak) / 3600


@lru_cache(maxsize=1024)
def model_hours(run: PublishedRun) -> float | None:
    """Device-hours of the run if nothing went wrong, by the time model with an ordinary layout."""
    hardware = find(run.hardware)
    coefficients = prior(hardware, "bf16" if hardware.peak("bf16") else "fp16")
    devices = run.devices or _SOME_DEVICES
    workload = workload_of_shape(shape_of(run.params), run.context, weight_bytes=4, gradient_bytes=4)
    batch = max(1, _TOKENS_AT_ONCE // run.context)
    small = run.params < _SHARDED_UP_TO or devices < 8
    cut = Cut(data=devices, zero=3) if small else Cut(data=devices // 8, tensor=8, sequence=True, zero=1)
    passes = 1 if small else _PASSES
    terms = step_terms(
        workload, cut, micro_batch=batch, accumulation=passes, recompute=run.recompute, coefficients=coefficients,
        devices_per_node=devices if hardware.kind == "tpu" else 8,  # a pod's links reach every chip
    )  # fmt: skip
    tokens = float(cut.data) * batch * passes * run.context
    hours = float(terms.total) / tokens * run.tokens * float(cut.devices) / 3600
    return None if math.isnan(hours) else hours


def shape_of(params: float, vocabulary: int = 50_000) -> Shape:
    """A decoder of about that many parameters in usual proportions: width 128 x depth, heads of 128."""
    width = max(256, round((params * 128 / 12) ** (1 / 3) / 128) * 128)
    layers = max(2, round((params - vocabulary * width) / (12 * width**2)))
    return Shape(width, layers, width // 128, vocabulary)


def _features(run: PublishedRun) -> np.ndarray:
    return np.array([1.0, max(0, _MODERN - (run.year or _MODERN))])


@lru_cache(maxsize=256)
def _learnt(runs: tuple[PublishedRun, ...]) -> tuple[tuple[float, ...], float]:
    """Coefficients, and the half-width of the band in logarithms."""
    usable = [(run, ideal) for run in runs if (ideal := model_hours(run)) is not None and run.hours]
    matrix = np.array([_features(run) for run, _ in usable])
    target = np.array([math.log((run.hours or 1.0) / ideal) for run, ideal in usable])
    misses = np.sort([
        abs(target[i] - matrix[i] @ _robust(np.delete(matrix, i, 0), np.delete(target, i)))
        for i in range(len(target))
    ])  # fmt: skip
    rank = min(len(misses), math.ceil((len(misses) + 1) * _COVERED))  # as conformal prediction has it
    return tuple(_robust(matrix, target).tolist()), float(misses[rank - 1])


def _robust(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Regression that minimises absolute errors, softened below 0.1 (reweighted least squares)."""
    weights = np.ones(len(target))
    found = np.zeros(matrix.shape[1])
    for _ in range(12):
        left = (matrix * weights[:, None]).T @ matrix + 1e-6 * np.eye(matrix.shape[1])
        found = np.linalg.solve(left, (matrix * weights[:, None]).T @ target)
        weights = 1 / np.maximum(np.abs(target - matrix @ found), 0.1)
    return found
