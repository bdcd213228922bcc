"""Tensors under the names of today, from files that have those of old (TensorFlow's gamma and beta of BERT's norms).

Nor do old files say a tensor twice that was one to their writer: transformers 4 has one bias for a masked-LM head and its
decoder, transformers 5 two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from arriero.models.checkpoint import Weights


class RenamedTensors:
    """Weights whose names end as ``endings`` (old -> new) say. Has what ``weights`` has.

    ``twins``: ending of a name -> that of a second name under which the tensor is found where nothing else has it.
    """

    def __init__(
        self, weights: Weights, endings: Mapping[str, str], twins: Mapping[str, str] | None = None
    ) -> None:
        self._weights = weights
        self._old = {_renamed(name, endings): name for name in weights.names()}
        for name, old in list(self._old.items()):
            self._old.setdefault(_renamed(name, twins or {}), old)

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


def twins_among(names: Iterable[str], twins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs of ``names`` that stand for one tensor to a reader who knows one alone: which of them, and its twin."""
    there = set(names)
    for name in sorted(there):
        twin = _renamed(name, twins)
        if twin != name and twin in there:
            yield name, twin


def _renamed(name: str, endings: Mapping[str, str]) -> str:
    for old, new in endings.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
