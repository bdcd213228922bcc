"""Which plans there are: everything that divides."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arriero.cost.search.columns import MODES, Plans
from arriero.cost.workload import Dimensions


@dataclass(frozen=True)
class DeviceType:
    """What of a device type decides on which plans there are.

    Attributes:
        node: devices of one machine; more devices than that come as whole machines, and tensor parallelism stays
            within one. variants: numbers of the workloads that it can run (a card without bf16 runs none in bf16).
    """

    node: int = 8
    variants: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Space:
    """All plans of one model on some devices.

    Attributes:
        dimensions: what layouts have to divide. context: tokens of a sequence. batch: sequences of one step.
        devices: types to look at. counts: how many of a type. micro_batches, zero: values to try.
        tensor, context_parallel, pipeline: whether the model can be cut that way.
        whole: variants whose matrices cannot be cut (adapters, low bits): tensor is 1.
        runnable: only what Arriero trains itself: states are cut over all copies (ZeRO 3) or not at all. False adds what
            other frameworks do: ZeRO 1 and 2, the latter without a pipeline.
    """

    dimensions: Dimensions
    context: int
    batch: int
    devices: tuple[DeviceType, ...]
    counts: tuple[int, ...]
    micro_batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    recompute: tuple[int, ...] = tuple(range(len(MODES)))
    zero: tuple[int, ...] = (0, 1, 2, 3)
    tensor: bool = True
    context_parallel: bool = True
    pipeline: bool = True
    whole: frozenset[int] = field(default_factory=frozenset)
    runnable: bool = True


def layouts(space: Space) -> dict[str, np.ndarray]:
    """Every way to cut the model and its step that divides, whatever the devices are; int64 columns."""
    sizes = space.dimensions
    most = max(space.counts, default=1)
    heads = np.gcd.reduce([sizes.n_heads, sizes.n_kv_heads, sizes.d_ff])
    tensor = _divisors(int(heads), most) if space.tensor else [1]
    pipeline = _divisors(sizes.n_layers, most) if space.pipeline else [1]
    context = [n for n in _divisors(space.context, most) if n == 1 or space.context_parallel]
    grid = np.meshgrid(
        space.counts, tensor, context, pipeline, space.zero, space.micro_batches, indexing="ij"
    )  # fmt: skip
    devices, t, c, p, zero, micro = (axis.ravel().astype(np.int64) for axis in grid)
    data, kept = dealt_out(devices, t, c, p, space.context)
    step = np.maximum(data, 1) * micro
    kept &= space.batch % step == 0
    kept &= (zero == 0) | (data * c > 1)
    kept &= (p == 1) | (space.batch // step >= p)
    if space.runnable:
        kept &= (zero == 0) | (zero == 3)
    else:
        # a stage whose gradients are scattered after each micro-batch would pay for it m times
        kept &= (p == 1) | (zero != 2)
    return {
        "devices": devices[kept], "data": data[kept], "tensor": t[kept], "context": c[kept], "pipeline": p[kept],
        "zero": zero[kept], "micro_batch": micro[kept], "accumulation": (space.batch // step)[kept],
    }  # fmt: skip


def dealt_out(
    devices: np.ndarray | int, tensor: np.ndarray, context: np.ndarray, pipeline: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the model that so many devices hold under each cut, int64, and whether devices and sequences of ``length``
    tokens can be dealt out so, bool."""
    data, left = np.divmod(devices, tensor * context * pipeline)
    # a sequence is dealt out in 2 c pieces, and each of them in t where the norms are cut along the tokens
    pieces = np.where(context > 1, 2 * context, 1) * tensor
    return data, (left == 0) & (data > 0) & (length % pieces == 0)


def enumerate_plans(space: Space) -> Plans:
    """All plans of ``space``, by device type, then workload, then recomputation, then layout."""
    found = layouts(space)
    rows = len(found["devices"])
    parts = []
    for number, device in enumerate(space.devices):
        inside = (found["devices"] <= device.node) | (found["devices"] % device.node == 0)
        inside &= (device.node % found["tensor"]) == 0
        for variant in device.variants:
            kept = inside & (found["tensor"] == 1) if variant in space.whole else inside
            for mode in space.recompute:
                same = {"hardware": number, "variant": variant, "recompute": mode}
                filled = {name: np.full(rows, value, dtype=np.int64) for name, value in same.items()}
                parts.append(Plans(**found, **filled).take(kept))
    return Plans.joined(parts) if parts else Plans.empty()


def _divisors(number: int, most: int) -> list[int]:
    return [n for n in range(1, min(number, most) + 1) if number % n == 0]
