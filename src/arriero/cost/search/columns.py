"""Training plans and what they cost, as columns: row i of every array is plan i."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.workload import Recompute

MODES: tuple[Recompute, ...] = ("none", "selective", "full")
"""What ``Plans.recompute`` numbers stand for."""
End = Literal["low", "middle", "high"]
_Columns = TypeVar("_Columns", bound="Columns")


@dataclass(frozen=True)
class Columns:
    """Arrays of one length (dataclass fields may hold further columns)."""

    def _each(self: _Columns, change: Callable[[str], object]) -> _Columns:
        return replace(self, **{item.name: change(item.name) for item in fields(self)})

    def take(self: _Columns, rows: np.ndarray | slice) -> _Columns:
        """The rows that an index, a mask or a slice picks."""

        def picked(name: str) -> object:
            column = getattr(self, name)
            return column.take(rows) if isinstance(column, Columns) else column[rows]

        return self._each(picked)

    @classmethod
    def joined(cls: type[_Columns], parts: Sequence[_Columns]) -> _Columns:
        """The rows of all parts, one part after the other; ``parts`` is not empty."""

        def chained(name: str) -> object:
            columns = [getattr(part, name) for part in parts]
            first = columns[0]
            return type(first).joined(columns) if isinstance(first, Columns) else np.concatenate(columns)

        return parts[0]._each(chained)


@dataclass(frozen=True)
class Plans(Columns):
    """What each plan does; every column int64 [plans].

    Attributes:
        hardware, variant: numbers of a device type and of a workload (precision, method, optimizer) in the caller's
            lists. recompute: number in :data:`MODES`.
        devices: data x tensor x context x pipeline. zero: stage, 0 to 3 (see `Cut`).
        micro_batch: sequences that one copy takes at once. accumulation: micro-batches of one step of one copy.
    """

    hardware: np.ndarray
    variant: np.ndarray
    devices: np.ndarray
    data: np.ndarray
    tensor: np.ndarray
    context: np.ndarray
    pipeline: np.ndarray
    zero: np.ndarray
    micro_batch: np.ndarray
    accumulation: np.ndarray
    recompute: np.ndarray

    def __len__(self) -> int:
        return len(self.devices)

    @property
    def cut(self) -> Cut:
        """The layouts; norms between tensor-parallel matrices are cut along the tokens, as is Arriero's default."""
        return Cut(
            data=self.data, tensor=self.tensor, context=self.context, pipeline=self.pipeline,
            sequence=self.tensor > 1, zero=self.zero,
        )  # fmt: skip

    @property
    def splits(self) -> np.ndarray:
        """How many ways a copy of the model is cut: of two equal plans the one with fewer is simpler."""
        return self.tensor * self.context * self.pipeline

    @classmethod
    def empty(cls) -> Plans:
        return cls(**{item.name: np.empty(0, dtype=np.int64) for item in fields(cls)})


@dataclass(frozen=True)
class Range(Columns):
    """A figure of each plan with its band; float64 [plans] each, NaN where the figure is unknown."""

    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray

    def end(self, name: End) -> np.ndarray:
        column: np.ndarray = getattr(self, name)
        return column

    def times(self, low: object, middle: object, high: object) -> Range:
        """The product with another band of positive figures."""
        return Range(self.low * low, self.middle * middle, self.high * high)

    @classmethod
    def exact(cls, values: np.ndarray) -> Range:
        return cls(values, values, values)

    @classmethod
    def unknown(cls, plans: int) -> Range:
        return cls.exact(np.full(plans, np.nan))


@dataclass(frozen=True)
class Scores(Columns):
    """What each plan takes.

    Attributes:
        seconds: wall clock of the whole run. money: in the tariff's currency. energy: joules at the devices.
        co2: grams. memory: peak bytes of one device. capacity: bytes that the device has, [plans].
        kind: number of the kind of memory that takes most, in the caller's list, int64 [plans].
    """

    seconds: Range
    money: Range
    energy: Range
    co2: Range
    memory: Range
    capacity: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.capacity)
