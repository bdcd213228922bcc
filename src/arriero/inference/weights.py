"""Whether a model's weights have changed since they were last looked at."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class WeightWatch:
    """Watches the version counters that torch raises at every change in place, and where the weights lie.

    It reads no weight, so it costs microseconds a tensor. A change through ``tensor.data`` raises no counter.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._seen = self._state()

    def changed(self) -> bool:
        """True once after each change."""
        state = self._state()
        changed = state != self._seen
        self._seen = state
        return changed

    def _state(self) -> list[tuple[int, int]]:
        tensors = chain(self._model.parameters(), self._model.buffers())
        return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors]
