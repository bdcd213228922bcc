"""Bytes on one device by what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from arriero.cost.units import format_bytes

Bytes: TypeAlias = "float | np.ndarray"
"""Bytes, or an array of them, one for each plan."""

KINDS = (
    "weights", "gradients", "optimizer", "activations", "logits", "unsharded", "kv", "runtime"
)  # fmt: skip
"""In the order in which they are shown."""


@dataclass(frozen=True)
class MemoryByKind:
    """Bytes of one device at the moment at which it holds most.

    Attributes:
        weights: parameters and tables that are no parameters (rotary angles). gradients: of trained parameters.
        optimizer: its states, master copies, running averages, and what it works with.
        activations: kept for the backward pass, what blocks work with, and the batch.
        logits: what the head and the loss work with.
        unsharded: weights gathered from other devices, and gradients on their way to them.
        kv: keys and values of sequences that are being generated. runtime: the process, kernels, communication.
        margin: (low, high) bytes that the allocator holds beside what is allocated.
        basis: "traced" (the real code on fake tensors), "profile" (straight lines through traces) or "fields" (the
            workload's summary figures alone).
    """

    weights: Bytes = 0.0
    gradients: Bytes = 0.0
    optimizer: Bytes = 0.0
    activations: Bytes = 0.0
    logits: Bytes = 0.0
    unsharded: Bytes = 0.0
    kv: Bytes = 0.0
    runtime: Bytes = 0.0
    margin: tuple[Bytes, Bytes] = (0.0, 0.0)
    basis: str = "profile"

    @property
    def allocated(self) -> Bytes:
        """Bytes of tensors: the figure that trackers and ``max_memory_allocated`` give."""
        return self.total - self.runtime

    @property
    def total(self) -> Bytes:
        """All kinds, without the allocator's margin."""
        total: Bytes = sum((getattr(self, kind) for kind in KINDS), 0.0)
        return total

    @property
    def low(self) -> Bytes:
        """With the least margin."""
        return self.total + self.margin[0]

    @property
    def high(self) -> Bytes:
        """With the largest margin: what a device must have."""
        return self.total + self.margin[1]

    @property
    def states(self) -> Bytes:
        """Weights, gradients and optimizer."""
        return self.weights + self.gradients + self.optimizer

    def at(self, plan: int) -> MemoryByKind:
        """Of one plan, where the kinds are arrays."""

        def pick(value: Bytes) -> float:
            found = np.asarray(value, dtype=float)
            return float(found if found.ndim == 0 else found[plan])

        kinds = {kind: pick(getattr(self, kind)) for kind in KINDS}
        return MemoryByKind(**kinds, margin=(pick(self.margin[0]), pick(self.margin[1])), basis=self.basis)

    def table(self) -> list[tuple[str, str]]:
        """Rows (kind, size) for printing, those of no bytes left out; scalars only.

        Raises:
            TypeError: the kinds are arrays; take one plan with :meth:`at`.
        """
        sizes = {kind: float(getattr(self, kind)) for kind in KINDS}
        rows = [(kind, format_bytes(size)) for kind, size in sizes.items() if size]
        low, high = (float(value) for value in self.margin)
        if high:
            rows.append(("allocator margin", f"{format_bytes(low)} to {format_bytes(high)}"))
        return [*rows, ("total", _span(float(self.low), float(self.high)))]


def of_kinds(kinds: Mapping[str, Bytes], margin: tuple[Bytes, Bytes], basis: str) -> MemoryByKind:
    """From bytes by name; what is not named is 0."""
    known = {field.name for field in fields(MemoryByKind)}
    return MemoryByKind(**{name: kinds[name] for name in kinds if name in known}, margin=margin, basis=basis)


def _span(low: float, high: float) -> str:
    return format_bytes(low) if low == high else f"{format_bytes(low)} to {format_bytes(high)}"
