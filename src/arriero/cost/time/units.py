"""Units of work that one step asks of the busiest device: what the coefficients multiply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from arriero.cost.cut import Count, Cut
from arriero.cost.workload import Recompute, Work, Workload

Number: TypeAlias = "float | np.ndarray"
Recomputes: TypeAlias = "Recompute | np.ndarray"
"""One mode, or an array of modes' names, one for each plan."""

_WHOLE_WITHOUT_SEQUENCE = 10 / 34
"""Share of element-wise traffic that tensor parallelism leaves whole unless the norms are cut along the tokens
(Korthikanti et al., arXiv 2205.05198, equation 2: 10 of 34 bytes a value)."""


@dataclass(frozen=True)
class Units:
    """Work of one micro-batch in one stage, and of one step.

    Attributes:
        products, attention: FLOP of the stage's blocks. elementwise: bytes. head: FLOP outside the blocks.
        rest: element-wise bytes outside the blocks. launches: blocks passed, forward and backward.
        optimizer: bytes of states, gradients and weights that the update reads and writes.
        micro: micro-batches of a step. stages: of the pipeline, as far as filling it takes time (fewer where they are
            interleaved). hiding: micro-batches that traffic of states can hide
            behind: all where weights are gathered for each, otherwise the last, whose gradients are the sum.
    """

    products: Number
    attention: Number
    elementwise: Number
    head: Number
    rest: Number
    launches: Number
    optimizer: Number
    micro: Number
    stages: Number
    hiding: Number


def work_units(
    workload: Workload, cut: Cut, micro_batch: Count, accumulation: Count, recompute: Recomputes
) -> Units:
    """Arithmetic and traffic of the slowest stage's device; every argument may be an array over plans."""
    size = workload.dimensions
    layers = np.ceil(size.n_layers / np.asarray(cut.pipeline))
    share = np.asarray(micro_batch) / (np.asarray(cut.tensor) * np.asarray(cut.context))
    tokenwise = np.asarray(micro_batch) / np.asarray(cut.context)
    whole = np.where(cut.sequence, 0.0, _WHOLE_WITHOUT_SEQUENCE)
    streamed = tokenwise * (whole + (1 - whole) / np.asarray(cut.tensor))
    block = _chosen(workload, recompute)
    rest = workload.forward_rest + workload.backward_rest
    return Units(
        products=layers * share * block["products"], attention=layers * share * block["attention"],
        elementwise=layers * streamed * block["elementwise"],
        head=share * (rest.head + rest.products + rest.attention), rest=share * rest.elementwise,
        launches=layers * _passes(recompute), optimizer=_optimizer_bytes(workload, cut, layers),
        micro=np.asarray(accumulation, dtype=float),
        stages=1 + (np.asarray(cut.pipeline, dtype=float) - 1) / np.asarray(cut.chunks),
        hiding=np.where(np.asarray(cut.zero) >= 3, np.asarray(accumulation, dtype=float), 1.0),
    )  # fmt: skip


def _chosen(workload: Workload, recompute: Recomputes) -> dict[str, Number]:
    """One block's forward, backward and repeated work by class, by the mode of each plan."""
    once = workload.forward_block + workload.backward_block
    fields = ("products", "attention", "elementwise")
    if isinstance(recompute, str):
        work = once + workload.recomputed_block.get(recompute, Work())
        return {name: getattr(work, name) for name in fields}
    return {
        name: getattr(once, name)
        + by_mode(recompute, {mode: getattr(work, name) for mode, work in workload.recomputed_block.items()})
        for name in fields
    }


def _passes(recompute: Recomputes) -> Number:
    """Passes through a block: forward, backward (two of its like), and the forward again."""
    extra = {"full": 1.0, "selective": 0.3}
    return 3.0 + (extra.get(recompute, 0.0) if isinstance(recompute, str) else by_mode(recompute, extra))


def by_mode(recompute: np.ndarray, value: dict[Recompute, float] | dict[str, float]) -> np.ndarray:
    result = np.zeros(recompute.shape)
    for mode, amount in value.items():
        result = np.where(recompute == mode, amount, result)
    return result


def device_parameters(workload: Workload, cut: Cut, layers: Number) -> Number:
    """Parameters of the busiest stage's device before any sharding of states."""
    counted = workload.parameters
    return (counted.block * layers + counted.rest) / np.asarray(cut.tensor)


def _optimizer_bytes(workload: Workload, cut: Cut, layers: Number) -> Number:
    counted = workload.parameters
    held = device_parameters(workload, cut, layers) * (counted.trained / max(counted.total, 1))
    owned = held / np.where(np.asarray(cut.zero) >= 1, cut.sharers, 1)
    weight = counted.weight_bytes / max(counted.total, 1)
    return owned * (2 * workload.gradient_bytes + 2 * workload.state_bytes + 2 * weight)
