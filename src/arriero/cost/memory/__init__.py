"""Memory of one device: by kind, at the moment at which it holds most."""

from __future__ import annotations

from arriero.cost.memory.closed_form import device_memory, serving_memory
from arriero.cost.memory.kinds import KINDS, MemoryByKind
from arriero.cost.memory.profile import MemoryProfile, Moment

__all__ = ["KINDS", "MemoryByKind", "MemoryProfile", "Moment", "device_memory", "serving_memory"]
