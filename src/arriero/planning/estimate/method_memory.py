"""Memory of the models beside the one that is trained, and of the answers that it writes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.memory import MemoryByKind
from arriero.cost.memory.closed_form import MARGIN
from arriero.cost.workload import Workload
from arriero.planning.estimate.layout_choice import Layout
from arriero.planning.estimate.method import Method
from arriero.planning.estimate.method_time import answers_at_once


def beside_bytes(method: Method, cut: Cut) -> np.ndarray:
    """Bytes that the other models' states take on a device, under each layout, at the upper end of the margin."""
    states = (sum(_states(workload, trained, cut).values()) for workload, trained in method.copies)
    total: np.ndarray = np.asarray(sum(states)) * (1 + MARGIN[1])
    return total


def with_others(memory: MemoryByKind, method: Method, layout: Layout) -> MemoryByKind:
    """The memory of the trained model's worst moment with the other models' states, and with what the kept keys and
    values of the answers take over that moment's activations and logits (writing and training do not coincide)."""
    found = {"weights": 0.0, "gradients": 0.0, "optimizer": 0.0}
    for workload, trained in method.copies:
        for name, held in _states(workload, trained, layout.cut).items():
            found[name] += float(held)
    kv = max(0.0, _kept(method, layout) - float(memory.activations + memory.logits))
    more = sum(found.values()) + kv
    return replace(
        memory, weights=memory.weights + found["weights"], gradients=memory.gradients + found["gradients"],
        optimizer=memory.optimizer + found["optimizer"], kv=kv,
        margin=(memory.margin[0] + MARGIN[0] * more, memory.margin[1] + MARGIN[1] * more),
    )  # fmt: skip


def _states(workload: Workload, trained: bool, cut: Cut) -> dict[str, np.ndarray]:
    """Bytes of weights, gradients and optimizer states of one model on a device."""
    parts = np.asarray(cut.tensor, dtype=float) * np.asarray(cut.pipeline)
    sharers, zero = np.asarray(cut.sharers, dtype=float), np.asarray(cut.zero)
    held = workload.parameters
    found = {"weights": held.weight_bytes / (parts * np.where(zero >= 3, sharers, 1.0))}
    if trained:
        found["gradients"] = (
            held.trained * workload.gradient_bytes / (parts * np.where(zero >= 2, sharers, 1.0))
        )
        found["optimizer"] = held.trained * workload.state_bytes / (parts * np.where(zero >= 1, sharers, 1.0))
    return found


def _kept(method: Method, layout: Layout) -> float:
    """Bytes of keys and values of all answers that a device writes at once."""
    found = 0.0
    for phase in method.others:
        if phase.response:
            heads = min(int(layout.cut.tensor), phase.workload.dimensions.n_kv_heads)
            tokens = (phase.prompt + phase.response) * answers_at_once(phase, method, layout)
            found = max(found, phase.workload.kv_token * tokens / heads)
    return found
