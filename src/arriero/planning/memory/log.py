"""Every storage of a traced step: when it came, when it went, how large it was, and what it was for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from arriero.cost.memory.profile import CLASSES
from arriero.cost.trace import LiveStorages

Label = tuple[Any, ...]
"""Names a stretch of a step: (phase, micro-batch, kind of block, number of the call), or less where there is no block."""
FORWARD, AFTER, BACKWARD, BEFORE, START, UPDATE = "forward", "after", "backward", "before", "start", "update"
"""Phases: a block's forward pass; what follows it; its backward pass; what follows that of the first; what comes before
all blocks; clipping and the optimizer's step."""


@dataclass(frozen=True)
class Stretch:
    """What lived from one mark to the next: bytes by class [events, classes]; one event at least."""

    label: Label
    bytes: np.ndarray

    @property
    def worst(self) -> np.ndarray:
        """The event at which most lived, [classes]."""
        found: np.ndarray = self.bytes[int(self.bytes.sum(axis=1).argmax())]
        return found


@dataclass
class _Storage:
    shape: tuple[int, ...]
    floating: bool
    born: int
    kind: str = ""


@dataclass
class StorageLog(LiveStorages):
    """Counts as :class:`LiveStorages` does, and remembers.

    Attributes:
        width, vocabulary: d_model and the number of tokens, by which shapes are told apart.
    """

    width: int
    vocabulary: int
    sharded: bool = False
    inside: int = 0
    """How deep the code that runs is inside attention or feed-forward."""
    _deltas: list[tuple[int, int]] = field(default_factory=list)
    _storages: list[_Storage] = field(default_factory=list)
    _numbers: dict[int, int] = field(default_factory=dict)
    _marks: list[tuple[int, Label]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def changed(self, key: int, n_bytes: int, tensor: torch.Tensor | None) -> None:
        super().changed(key, n_bytes, tensor)
        if tensor is not None:
            self._numbers[key] = len(self._storages)
            kind = "inner" if self.inside else ""
            self._storages.append(
                _Storage(tuple(tensor.shape), tensor.is_floating_point(), len(self._deltas), kind)
            )
        self._deltas.append((self._numbers[key], n_bytes))

    def resized(self, storage: Any) -> None:
        """A storage was given another size by a call that no operation shows (FSDP frees so)."""
        known = self._refs.get(storage._cdata)
        if known is not None and known[0]() is not None and known[1] != storage.nbytes():
            self._refs[storage._cdata] = (known[0], storage.nbytes())
            self.changed(storage._cdata, storage.nbytes() - known[1], None)
            self.peak = max(self.peak, self.bytes)

    def tag(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """These tensors' storages are of this class, whatever their shape says."""
        for tensor in tensors:
            number = self._numbers.get(tensor.untyped_storage()._cdata)
            if number is not None:
                self._storages[number].kind = kind

    def mark(self, *label: Any) -> None:
        """A stretch begins."""
        self._marks.append((len(self._deltas), label))

    def stretches(self) -> list[Stretch]:
        """What lived in each stretch, from the first mark on."""
        levels = self._levels()
        grows = np.array([False, *(n_bytes > 0 for _, n_bytes in self._deltas)])
        return [
            Stretch(label, levels[[start, *(start + 1 + np.flatnonzero(grows[start + 1 : end + 1]))]])
            for start, end, label in self._spans()
        ]

    def at_peak(self) -> np.ndarray:
        """Bytes by class at the moment at which most lives from the first mark on."""
        found: np.ndarray = max(
            (stretch.worst for stretch in self.stretches()), key=lambda worst: worst.sum()
        )
        return found

    def _spans(self) -> list[tuple[int, int, Label]]:
        """(first event, end, label) of the stretches."""
        ends = [start for start, _ in self._marks[1:]] + [len(self._deltas)]
        return [(start, end, label) for (start, label), end in zip(self._marks, ends, strict=True)]

    def _levels(self) -> np.ndarray:
        """Bytes by class [events + 1, classes], before the first event and after each."""
        heads = self._head_spans()
        classes = np.array([CLASSES.index(self._class(storage, heads)) for storage in self._storages])
        changes = np.zeros((len(self._deltas) + 1, len(CLASSES)))
        numbers, sizes = (np.array(column) for column in zip(*self._deltas, strict=True))
        changes[np.arange(1, len(changes)), classes[numbers]] = sizes
        found: np.ndarray = changes.cumsum(axis=0)
        return found

    def _head_spans(self) -> list[tuple[int, int]]:
        spans = self._spans()
        following = [label[0] for *_, label in spans[1:]] + [UPDATE]
        return [
            (start, end)
            for (start, end, label), then in zip(spans, following, strict=True)
            if label[0] == AFTER and then in (BACKWARD, UPDATE, START)
        ]

    def _class(self, storage: _Storage, heads: list[tuple[int, int]]) -> str:
        if storage.kind and storage.kind != "inner":
            return storage.kind
        if self.sharded and storage.floating and len(storage.shape) == 1:
            return "unsharded"
        if storage.shape and storage.shape[-1] == self.vocabulary:
            return "logits"
        if any(start <= storage.born < end for start, end in heads):
            return "logits" if storage.shape[-1:] != (self.width,) else "stream"
        if storage.kind or (storage.shape and storage.shape[-1] != self.width):
            return "inner"
        return "stream"
