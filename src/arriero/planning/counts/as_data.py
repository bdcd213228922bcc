"""Counted work and memory profiles as plain data, and back, to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

from arriero.cost.memory.profile import Group, MemoryProfile, Moment
from arriero.cost.workload import Parameters, Recompute, Work

T = TypeVar("T")
_WORKS = ("forward_block", "forward_rest", "backward_block", "backward_rest", "once_block", "once_rest")


class ByMode(Mapping[Recompute, T], Generic[T]):
    """A value for each mode of recomputation, worked out when it is first asked for."""

    def __init__(self, modes: tuple[Recompute, ...], find: Callable[[Recompute], T]) -> None:
        self._modes, self._find = modes, find
        self._found: dict[Recompute, T] = {}

    def __getitem__(self, mode: Recompute) -> T:
        if mode not in self._modes:
            raise KeyError(mode)
        if mode not in self._found:
            self._found[mode] = self._find(mode)
        return self._found[mode]

    def __contains__(self, mode: object) -> bool:
        return mode in self._modes

    def __iter__(self) -> Iterator[Recompute]:
        return iter(self._modes)

    def __len__(self) -> int:
        return len(self._modes)


def counts_data(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The counted fields of a workload."""
    found = {**fields, "parameters": asdict(fields["parameters"]), "uncounted": list(fields["uncounted"])}
    return {**found, **{name: work_data(fields[name]) for name in _WORKS}}


def counts_from(data: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`counts_data` was given."""
    found = {**data, "parameters": Parameters(**data["parameters"]), "uncounted": tuple(data["uncounted"])}
    return {**found, **{name: Work(*data[name]) for name in _WORKS}}


def work_data(work: Work) -> list[float]:
    return [work.products, work.head, work.attention, work.elementwise]


def profile_data(profile: MemoryProfile) -> dict[str, Any]:
    """A memory profile's moments."""
    return asdict(profile)


def profile_from(data: Mapping[str, Any]) -> MemoryProfile:
    """What :func:`profile_data` was given."""
    first, later = (tuple(map(_moment, data[name])) for name in ("first", "later"))
    waiting, early = (_moment(data[name]) if data.get(name) else None for name in ("waiting", "early"))
    single = profile_from(data["single"]) if data.get("single") else None
    closing = tuple(map(_moment, data["closing"]))
    return MemoryProfile(first, later, data["basis"], waiting, early, closing, single, Group(**data["group"]))


def _moment(data: Mapping[str, Any]) -> Moment:
    return Moment(
        data["where"], tuple(data["rows"]), {name: tuple(values) for name, values in data["bytes"].items()},
        {name: (line[0], line[1]) for name, line in data["block"].items()}, data["least"], data["most"],
    )  # fmt: skip
