"""What every plan takes: memory, seconds, money, energy, CO2; columns in, columns out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from arriero.cost.hardware.table import Hardware
from arriero.cost.memory import KINDS, device_memory
from arriero.cost.quantity import Quantity
from arriero.cost.search.columns import MODES, Columns, Plans, Range, Scores
from arriero.cost.time import Coefficients, step_terms
from arriero.cost.workload import Workload

_HOUR, _JOULES_PER_KWH = 3600.0, 3.6e6
_UNKNOWN = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Offer:
    """One kind of device as the search may have it.

    Attributes:
        hardware: its figures. node: devices of one machine.
        price: money of one device's hour. watts: what one draws while it trains. Both may be unknown.
        coefficients: of its time, by dtype of the products; a workload in another dtype is not for this device.
        band: factors of the lower and the upper end of the seconds, by dtype.
        runtime: bytes (low, middle, high) that a process takes before it allocates anything, by device count.
        effective: part of the wall clock that trains when that many devices work in step, 0 to 1 (failures).
    """

    hardware: Hardware
    node: int
    price: Quantity
    watts: Quantity
    coefficients: dict[str, Coefficients]
    band: dict[str, tuple[float, float]]
    runtime: Callable[[int], tuple[float, float, float]] = lambda devices: (0.0, 0.0, 0.0)
    effective: Callable[[int], float] = lambda devices: 1.0


@dataclass(frozen=True)
class Surroundings:
    """What holds for all devices: facility energy over device energy, and grams of CO2 a kWh."""

    pue: Quantity
    grid: Quantity


def evaluate(
    plans: Plans, offers: Sequence[Offer], workloads: Sequence[Workload], tokens: float, around: Surroundings
) -> Scores:
    """Scores of every plan, in the plans' order.

    Args:
        offers, workloads: what ``plans.hardware`` and ``plans.variant`` count.
        tokens: that the run trains on; the last step may be short and takes as long as the others.
    """
    found = np.empty(len(plans), dtype=np.int64)
    parts = []
    start = 0
    memory = _memory(plans, workloads)
    for rows, offer, workload in _groups(plans, offers, workloads):
        found[rows] = np.arange(start, start + len(rows))
        start += len(rows)
        parts.append(_score(plans.take(rows), memory.take(rows), offer, workload, tokens, around))
    return Scores.joined(parts).take(found) if parts else _nothing()


def _groups(
    plans: Plans, offers: Sequence[Offer], workloads: Sequence[Workload]
) -> Iterator[tuple[np.ndarray, Offer, Workload]]:
    for number, offer in enumerate(offers):
        mine = plans.hardware == number
        for variant, workload in enumerate(workloads):
            rows = np.flatnonzero(mine & (plans.variant == variant))
            if len(rows):
                yield rows, offer, workload


def _score(
    plans: Plans, memory: _Memory, offer: Offer, workload: Workload, tokens: float, around: Surroundings
) -> Scores:
    seconds = _seconds(plans, offer, workload, tokens)
    device_seconds = seconds.times(plans.devices, plans.devices, plans.devices)
    energy = device_seconds.times(*_ends(offer.watts))
    facility = energy.times(*_ends(around.pue)).times(*_ends(around.grid))
    capacity = offer.hardware.memory_bytes
    per_joule = 1 / _JOULES_PER_KWH
    return Scores(
        seconds=seconds,
        money=device_seconds.times(*(price / _HOUR for price in _ends(offer.price))),
        energy=energy,
        co2=facility.times(per_joule, per_joule, per_joule),
        memory=_with_runtime(memory.allocated, plans, offer),
        capacity=np.full(len(plans), math.nan if capacity is None else capacity),
        kind=memory.kind,
    )


def _ends(quantity: Quantity) -> tuple[float, float, float]:
    if quantity.value is None or quantity.low is None or quantity.high is None:
        return _UNKNOWN
    return quantity.low, quantity.value, quantity.high


@dataclass(frozen=True)
class _Memory(Columns):
    """Bytes that plans allocate on their fullest device, and the number in ``KINDS`` of what takes most of them."""

    allocated: Range
    kind: np.ndarray


def _memory(plans: Plans, workloads: Sequence[Workload]) -> _Memory:
    """What devices do not decide on, so that layouts are worked out once for all of these."""
    found = _Memory(Range.unknown(len(plans)), np.zeros(len(plans), dtype=np.int64))
    for variant, workload in enumerate(workloads):
        rows = np.flatnonzero(plans.variant == variant)
        if len(rows):
            first, which = _layouts(plans.take(rows))
            mine = _of_layouts(plans.take(rows[first]), workload).take(which)
            for column in ("low", "middle", "high"):
                getattr(found.allocated, column)[rows] = getattr(mine.allocated, column)
            found.kind[rows] = mine.kind
    return found


def _layouts(plans: Plans) -> tuple[np.ndarray, np.ndarray]:
    """(a row of each layout, the layout of each row)."""
    key = np.zeros(len(plans), dtype=np.int64)
    for name in ("data", "tensor", "context", "pipeline", "zero", "micro_batch", "accumulation", "recompute"):
        _, number = np.unique(getattr(plans, name), return_inverse=True)
        _, key = np.unique(key * (number.max() + 1) + number, return_inverse=True)
    _, first = np.unique(key, return_index=True)
    return first, key


def _of_layouts(plans: Plans, workload: Workload) -> _Memory:
    found = device_memory(
        workload, plans.cut, micro_batch=plans.micro_batch, accumulation=plans.accumulation, recompute=_modes(plans)
    )  # fmt: skip
    ends = (found.low, found.total + (found.margin[0] + found.margin[1]) / 2, found.high)
    shape = plans.devices.shape
    kinds = np.stack([np.broadcast_to(getattr(found, kind), shape) for kind in KINDS if kind != "runtime"])
    return _Memory(Range(*(np.broadcast_to(end, shape) for end in ends)), kinds.argmax(axis=0))


def _with_runtime(allocated: Range, plans: Plans, offer: Offer) -> Range:
    runtime = _by_devices(plans, offer.runtime)
    ends = (allocated.low, allocated.middle, allocated.high)
    return Range(*(end + runtime[:, column] for column, end in enumerate(ends)))


def _modes(plans: Plans) -> np.ndarray:
    return np.array(MODES)[plans.recompute]


def _seconds(plans: Plans, offer: Offer, workload: Workload, tokens: float) -> Range:
    dtype = workload.dtype
    terms = step_terms(
        workload, plans.cut, micro_batch=plans.micro_batch, accumulation=plans.accumulation,
        recompute=_modes(plans), coefficients=offer.coefficients[dtype], devices_per_node=offer.node,
    )  # fmt: skip
    step_tokens = plans.data * plans.micro_batch * plans.accumulation * workload.context
    share = _by_devices(plans, lambda count: (offer.effective(count),))[:, 0]
    middle = np.broadcast_to(terms.total, share.shape) * np.ceil(tokens / step_tokens) / share
    low, high = offer.band[dtype]
    return Range(middle * low, middle, middle * high)


def _by_devices(plans: Plans, figures: Callable[[int], tuple[float, ...]]) -> np.ndarray:
    """What depends on the device count alone, [plans, figures]."""
    counts, where = np.unique(plans.devices, return_inverse=True)
    rows: np.ndarray = np.array([figures(int(count)) for count in counts])[where]
    return rows


def _nothing() -> Scores:
    none = Range.unknown(0)
    return Scores(none, none, none, none, none, np.empty(0), np.empty(0, dtype=np.int64))
