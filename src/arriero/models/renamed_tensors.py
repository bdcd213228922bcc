"""Tensors under the names of today, from files that have those of old (TensorFlow's gamma and beta of BERT's norms)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from arriero.models.checkpoint import Weights


class RenamedTensors:
    """Weights whose names end as ``endings`` (old -> new) say. Has what ``weights`` has."""

    def __init__(self, weights: Weights, endings: Mapping[str, str]) -> None:
        self._weights = weights
        self._old = {_renamed(name, endings): name for name in weights.names()}

    def names(self) -> set[str]:
        return set(self._old)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights.shape(self._old[name])

    def dtype(self, name: str) -> torch.dtype:
        return self._weights.dtype(self._old[name])

    def read(self, name: str) -> Tensor:
        return self._weights.read(self._old[name])

    def read_into(self, name: str, out: Tensor) -> None:
        self._weights.read_into(self._old[name], out)


def _renamed(name: str, endings: Mapping[str, str]) -> str:
    for old, new in endings.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
