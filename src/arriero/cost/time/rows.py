"""Measured training steps, and what they asked for in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias, TypeVar

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.time.model import Demand, demand
from arriero.cost.time.traffic import Traffic
from arriero.cost.time.units import Units
from arriero.cost.workload import Recompute, Workload

ALONE = Cut()


@dataclass(frozen=True)
class Observation:
    """One measured training step."""

    workload: Workload
    seconds: float
    cut: Cut = ALONE
    micro_batch: int = 1
    accumulation: int = 1
    recompute: Recompute = "none"
    devices_per_node: int = 8
    weight: float = 1.0


@dataclass(frozen=True)
class Rows:
    """Measured steps in arrays over the rows: what they asked for, seconds, and how much each counts."""

    asked: Demand
    seconds: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: np.ndarray) -> Rows:
        """Some of the rows, by index or mask."""
        asked = Demand(
            _taken(self.asked.units, which), _taken(self.asked.inline, which), _taken(self.asked.states, which)
        )  # fmt: skip
        return Rows(asked, self.seconds[which], self.weights[which])


Steps: TypeAlias = "Sequence[Observation] | Rows"


def in_arrays(steps: Steps) -> Rows:
    """The steps in arrays, in their order."""
    if isinstance(steps, Rows):
        return steps
    return Rows(
        demand_of(steps),
        np.array([step.seconds for step in steps]),
        np.array([step.weight for step in steps]),
    )


def demand_of(rows: Sequence[Observation]) -> Demand:
    """What the rows' steps ask for, in arrays over the rows; rows of one workload at once."""
    places: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault(id(row.workload), []).append(index)
    parts = [_together([rows[index] for index in indices]) for indices in places.values()]
    order = np.argsort(np.concatenate(list(places.values())), kind="stable")
    counts = [len(indices) for indices in places.values()]
    return Demand(
        _joined([part.units for part in parts], counts, order),
        _joined([part.inline for part in parts], counts, order),
        _joined([part.states for part in parts], counts, order),
    )


def _together(rows: Sequence[Observation]) -> Demand:
    cuts = [row.cut for row in rows]
    return demand(
        rows[0].workload, Cut(**{part.name: np.array([getattr(one, part.name) for one in cuts]) for part in fields(Cut)}),
        micro_batch=np.array([row.micro_batch for row in rows]),
        accumulation=np.array([row.accumulation for row in rows]),
        recompute=np.array([row.recompute for row in rows]),
        devices_per_node=np.array([row.devices_per_node for row in rows]),
    )  # fmt: skip


T = TypeVar("T", Units, Traffic)


def _joined(parts: list[T], counts: list[int], order: np.ndarray) -> T:
    """Records of arrays, one after the other, in the rows' own order."""
    kind = type(parts[0])
    return kind(**{
        field.name: np.concatenate([
            np.broadcast_to(np.asarray(getattr(part, field.name), dtype=float), count)
            for part, count in zip(parts, counts, strict=True)
        ])[order]
        for field in fields(kind)
    })  # fmt: skip


def _taken(part: T, which: np.ndarray) -> T:
    return type(part)(**{field.name: getattr(part, field.name)[which] for field in fields(part)})
