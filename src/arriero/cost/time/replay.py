"""Measured steps that others have published, in the form of their own files, for fitting and for checking.

* llm-foundry: ``scripts/train/benchmarking/README.md`` of mosaicml/llm-foundry (Apache-2.0), its tables as CSV.
* vTrain: ``data/ground_truth_single.csv`` of VIA-Research/vTrain (MIT).
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.time.coefficients import Coefficients
from arriero.cost.time.fit import RIDGE, fit_without_spread, predict
from arriero.cost.time.rows import Observation, in_arrays
from arriero.cost.time.shapes import Shape, workload_of_shape
from arriero.cost.workload import Recompute, Workload
from arriero.errors import ArrieroError

MPT: dict[str, tuple[int, int, int]] = {
    "125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16), "3b": (2560, 32, 20),
    "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56), "70b": (8192, 80, 64),
}  # fmt: skip
"""Width, blocks and heads of MosaicML's pre-training configurations; vocabulary 50,368, learned positions, tied."""

_MPT_VOCABULARY = 50368
_MEGATRON_VOCABULARY = 51200


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV, gzipped or not, its column names without blanks, underscores and marks, in lower case."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    reader = csv.reader(io.StringIO(text))
    names = ["".join(c for c in name.lower() if c.isalnum()) for name in next(reader)]
    return [dict(zip(names, row, strict=True)) for row in reader]


def llm_foundry(path: Path, gpu: str) -> list[Observation]:
    """FSDP steps of MPT models on one kind of device ("a100_40gb", "a100_80gb", "h100_80gb").

    Raises:
        ArrieroError: a row is of a model whose sizes are not known.
    """
    return [_llm_foundry(row) for row in rows_of(path) if row["gpu"] == gpu]


def _llm_foundry(row: dict[str, str]) -> Observation:
    if row["model"] not in MPT:
        raise ArrieroError(f"the sizes of '{row['model']}' are not known; known: {', '.join(MPT)}")
    width, layers, heads = MPT[row["model"]]
    context, devices = int(row["seqlent"]), int(row["gpus"])
    pure = row["mpmode"] == "PURE"  # bf16 weights, gradients and states, otherwise fp32 ones
    batch, passes = int(row["microbatchsize"]), int(row["gradaccum"])
    workload = workload_of_shape(
        Shape(width, layers, heads, _MPT_VOCABULARY, positions=context), context, name=row["model"],
        weight_bytes=2 if pure else 4, gradient_bytes=2 if pure else 4, state_bytes=4 if pure else 8,
    )  # fmt: skip
    recompute: Recompute = "full" if row["activationcheckpointing"] == "True" else "none"
    seconds = int(row["globalbatchsize"]) * context / (float(row["throughputtsgpu"]) * devices)
    return Observation(workload, seconds, Cut(data=devices, zero=3), batch, passes, recompute)


def vtrain(path: Path) -> list[Observation]:
    """Megatron-DeepSpeed iterations on A100s of one node, every mixture of tensor, data and pipeline parallelism."""
    return [_vtrain(row) for row in rows_of(path)]


@lru_cache(maxsize=256)
def _megatron(width: int, layers: int, heads: int, context: int) -> Workload:
    shape = Shape(width, layers, heads, _MEGATRON_VOCABULARY, positions=context, fused=False)
    return workload_of_shape(shape, context, name=f"{width}x{layers}", state_bytes=12)


def _vtrain(row: dict[str, str]) -> Observation:
    sizes = (row["hiddensize"], row["layers"], row["attentionheads"], row["sequencelength"])
    workload = _megatron(*(int(size) for size in sizes))
    data, batch = int(row["dataparallelism"]), int(row["microbatch"])
    cut = Cut(data=data, tensor=int(row["tensorparallelism"]), pipeline=int(row["pipelineparallelism"]))
    passes = int(row["globalbatch"]) // data // batch
    return Observation(workload, float(row["iterationtimems"]) / 1e3, cut, batch, passes)


def held_out(
    steps: Sequence[Observation],
    prior: Coefficients,
    group: Callable[[Observation], object],
    ridge: float = RIDGE,
) -> np.ndarray:
    """Predicted / measured - 1 of every step, each group predicted by coefficients fitted on the others, shape [steps]."""
    keys = np.array([str(group(step)) for step in steps])
    rows, errors = in_arrays(steps), np.empty(len(steps))
    for key in set(keys.tolist()):
        out = keys == key
        found = fit_without_spread(rows.take(~out), prior, ridge)
        errors[out] = predict(rows.take(out), found) / rows.seconds[out] - 1
    return errors


def constant_utilisation(
    rows: Sequence[Observation], peak: float, group: Callable[[Observation], object]
) -> np.ndarray:
    """The same with what most planners do: FLOP over one utilisation of the peak, the other groups' median."""
    keys = np.array([str(group(row)) for row in rows])
    ideal = np.array([_flop(row) / peak for row in rows])
    measured = np.array([row.seconds for row in rows])
    share = ideal / measured
    return np.array(
        [ideal[i] / np.median(share[keys != keys[i]]) / measured[i] - 1 for i in range(len(rows))]
    )


def _flop(row: Observation) -> float:
    """FLOP of one device in one step as the rivals count them: 6 N a token and attention's whole square, nothing twice
    for being worked out again (the formula of llm-foundry's own tables)."""
    size, context = row.workload.dimensions, row.workload.context
    width = size.n_heads * size.head_dim
    sequence = 6.0 * row.workload.parameters.total * context + 12.0 * size.n_layers * width * context**2
    parts = int(row.cut.tensor) * int(row.cut.context) * int(row.cut.pipeline)
    return sequence * row.micro_batch * row.accumulation / parts
