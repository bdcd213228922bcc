"""The products that adapters add to a model's linear layers, for the rows that go through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from arriero.errors import ArrieroError
from arriero.inference.adapter_files import Adapter
from arriero.products import linear


@dataclass(frozen=True)
class _Group:
    """The rows of one adapter within a step; a slice where they lie side by side."""

    adapter: Adapter
    rows: slice | Tensor


class AdapterProducts:
    """Hooks on a model's linear layers: ``y[rows] += (x[rows] a^T) b^T`` for the rows of each adapter.

    The hooks are there within a step with adapters only, so that at all other times the model computes as if it had
    none. The low-rank products are float32, rounded once into the result.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._handles: list[RemovableHandle] = []
        self._groups: list[_Group] = []
        self._count = 0

    def begin(self, rows: Sequence[str | None], known: Mapping[str, Adapter]) -> None:
        """From here on row i of every linear layer's input goes through the adapter called ``rows[i]``."""
        device = next(self._model.parameters()).device
        self._count = len(rows)
        self._groups = [
            _Group(known[name], _compact(indices, device)) for name, indices in _by_name(rows).items()
        ]
        for place in {place: None for group in self._groups for place in group.adapter.layers}:
            module = self._model.get_submodule(place)
            self._handles.append(module.register_forward_hook(partial(self._add, place)))

    def end(self) -> None:
        """No row goes through an adapter any more."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._groups = [], []

    def _add(self, place: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x, y = args[0].reshape(-1, args[0].shape[-1]), output.reshape(-1, output.shape[-1])
        if len(x) != self._count:
            raise ArrieroError(
                f"{place} got {len(x)} rows in a step of {self._count}: adapters cannot tell whose they are"
            )
        for group in self._groups:
            layer = group.adapter.layers.get(place)
            if layer is not None:
                y[group.rows] += linear(linear(x[group.rows].float(), layer.a), layer.b)
        return y.view(output.shape)


def _by_name(rows: Sequence[str | None]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, name in enumerate(rows):
        if name is not None:
            found.setdefault(name, []).append(index)
    return found


def _compact(indices: list[int], device: torch.device) -> slice | Tensor:
    first, last = indices[0], indices[-1]
    if last - first + 1 == len(indices):
        return slice(first, last + 1)
    return torch.tensor(indices, dtype=torch.int64, device=device)
