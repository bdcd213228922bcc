"""Bytes that devices send each other in one step, by what carries them and whether other work can hide them.

Volumes are *bus bytes*: what crosses the slowest link of a ring, ``S (n-1)/n`` for a gather or a scatter of S bytes
over n devices and twice that for an all-reduce, so that seconds are volume over the bus that NCCL's tests report.
All-reduce and gather have different buses: switches can add up on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.cut import Count, Cut
from arriero.cost.time.units import Number, Recomputes, device_parameters
from arriero.cost.workload import Workload

_MESSAGE_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 2.0}
"""Activations travel in the type of compute; fp8 recipes send bf16."""


@dataclass(frozen=True)
class Traffic:
    """One kind of traffic of a step: bus bytes inside the node by all-reduce and by gather, network bytes, messages."""

    all_reduce: Number = 0.0
    gather: Number = 0.0
    network: Number = 0.0
    hops: Number = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.all_reduce + other.all_reduce, self.gather + other.gather,
            self.network + other.network, self.hops + other.hops,
        )  # fmt: skip

    def times(self, factor: Number) -> Traffic:
        return Traffic(
            self.all_reduce * factor, self.gather * factor, self.network * factor, self.hops * factor
        )


def stage_traffic(
    workload: Workload, cut: Cut, micro_batch: Count, recompute: Recomputes, devices_per_node: Count
) -> Traffic:
    """Of one micro-batch in one stage, in the way of its compute: tensor, context and pipeline parallelism."""
    size = workload.dimensions
    layers = np.ceil(size.n_layers / np.asarray(cut.pipeline))
    tensor, context, pipeline = (np.asarray(n) for n in (cut.tensor, cut.context, cut.pipeline))
    tokens = np.asarray(micro_batch) * workload.context / context
    width = _MESSAGE_BYTES[workload.dtype]
    # all of the forward pass again, as Megatron-LM runs it (Arriero's stops short of a block's last sum). The cut stream
    # that is gathered once more for the weights' gradients comes beside the gradients of the inputs
    again = np.where(np.asarray(recompute) == "full", 2.0, 0.0)
    state = tokens * size.d_model * width
    reduces = np.where(tensor > 1, layers * (4.0 + again), 0.0)
    inside = _group(tensor, 1, devices_per_node)
    by_tensor = _collective(2 * state * reduces, inside, cut.sequence, 2 * reduces)
    keys = 2 * tokens * size.n_kv_heads * size.head_dim * width / np.minimum(tensor, size.n_kv_heads)
    ring = np.where(
        context > 1, layers * 3 * (context - 1) * keys, 0.0
    )  # each part passes all the others' keys
    by_context = _point_to_point(ring, tensor * context > devices_per_node, layers * 3 * (context - 1))
    crossings = 2.0 * np.where(pipeline > 1, np.asarray(cut.chunks), 0.0)
    boundary = crossings * state / np.where(cut.sequence, tensor, 1)
    across = tensor * context * np.asarray(cut.data) * pipeline > devices_per_node
    by_pipeline = _point_to_point(boundary, across, crossings)
    return by_tensor + by_context + by_pipeline


def state_traffic(workload: Workload, cut: Cut, accumulation: Count, devices_per_node: Count) -> Traffic:
    """Of one step: weights gathered and gradients reduced over the copies of the model."""
    counted = workload.parameters
    layers = np.ceil(workload.dimensions.n_layers / np.asarray(cut.pipeline))
    held = device_parameters(workload, cut, layers)
    trained = held * (counted.trained / max(counted.total, 1))
    sharers, zero = np.asarray(cut.sharers), np.asarray(cut.zero)
    group = _group(sharers, np.asarray(cut.tensor), devices_per_node)
    weight = min(counted.weight_bytes / max(counted.total, 1), _MESSAGE_BYTES[workload.dtype])
    messages = layers + 1
    # a pipeline's stage gathers its weights once a step, and scatters the sum of its gradients
    piped = np.asarray(cut.pipeline) > 1
    micro = np.where(piped, 1.0, np.asarray(accumulation))
    passes = np.where(piped, 1.0, 2.0)
    gathered = _collective(passes * held * weight, group, True, passes * messages).times(micro)
    scattered = _collective(trained * workload.gradient_bytes, group, True, messages).times(micro)
    once = _collective(2 * trained * workload.gradient_bytes, group, zero > 0, messages)
    fully = zero >= 3
    both = gathered + scattered
    return Traffic(*(
        np.where(sharers > 1, np.where(fully, getattr(both, name), getattr(once, name)), 0.0)
        for name in ("all_reduce", "gather", "network", "hops")
    ))  # fmt: skip


@dataclass(frozen=True)
class _Group:
    """``size`` devices of which ``near`` are in one node."""

    size: Number
    near: Number


def _group(size: Number, stride: Number, devices_per_node: Count) -> _Group:
    """Devices ``stride`` apart: how many of them are in one node."""
    near = np.clip(np.asarray(devices_per_node) // np.asarray(stride), 1, size)
    return _Group(size, near)


def _collective(volume: Number, group: _Group, gathers: bool | np.ndarray, hops: Number) -> Traffic:
    """A collective of ``volume`` bytes (already twice for an all-reduce) over a group, level by level.

    Inside a node each device receives what the others hold; between nodes a node's devices share what must come in.
    """
    near = np.asarray(group.near, dtype=float)
    size = np.asarray(group.size, dtype=float)
    inside = np.where(near > 1, volume * (size - 1) / size, 0.0)
    network = volume * (size - near) / size / near
    return Traffic(
        all_reduce=np.where(gathers, 0.0, inside), gather=np.where(gathers, inside, 0.0), network=network,
        hops=np.where(size > 1, hops, 0.0) * np.log2(np.maximum(size, 2.0)),
    )  # fmt: skip


def _point_to_point(volume: Number, across: bool | np.ndarray, hops: Number) -> Traffic:
    return Traffic(gather=np.where(across, 0.0, volume), network=np.where(across, volume, 0.0), hops=hops)
