"""Seconds of a training step: units of work times coefficients, term by term, for one plan or many at once.

    step = (m + p - 1) x stage + m x head + exposed gradients and weights + optimizer + constant

with m micro-batches through p pipeline stages (Huang et al., arXiv 1811.06965; Narayanan et al., arXiv 2104.04473).
Traffic that other work can hide is exposed by a fixed share, and wholly by what is longer than that work. The host
launches while the device works: a stage takes sqrt(device^2 + host^2), the longer of the two with a rounded corner.

Seconds are homogeneous of degree one in the coefficients, so they equal the sum of each coefficient times its slope
(Euler); :func:`slopes` gives them, which is what a fit needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arriero.cost.cut import Count, Cut
from arriero.cost.hardware.table import Hardware
from arriero.cost.time.coefficients import EXPOSED, NAMES, Coefficients, prior
from arriero.cost.time.terms import Seconds, TimeTerms
from arriero.cost.time.traffic import Traffic, stage_traffic, state_traffic
from arriero.cost.time.units import Number, Recomputes, Units, work_units
from arriero.cost.workload import Workload

_TINY = 1e-300


def step_terms(
    workload: Workload, cut: Cut, *, micro_batch: Count = 1, accumulation: Count = 1, recompute: Recomputes = "none",
    hardware: Hardware | None = None, coefficients: Coefficients | None = None, devices_per_node: Count = 8,
) -> TimeTerms:  # fmt: skip
    """Seconds of one optimizer step: ``cut.data * accumulation * micro_batch`` sequences of ``workload``.

    Args:
        cut: the layout; its numbers, ``micro_batch``, ``accumulation``, ``recompute`` and ``devices_per_node`` may be
            arrays of one shape, one entry for each plan.
        micro_batch: sequences that go through one copy of the model at once. accumulation: such passes in a step.
        coefficients: otherwise those that the table gives for ``hardware`` and the workload's dtype.

    Returns:
        Seconds by term, NaN where a figure that is needed is unknown.
    """
    if coefficients is None:
        if hardware is None:
            raise ValueError("step_terms needs hardware or coefficients")
        coefficients = prior(hardware, workload.dtype)
    asked = demand(
        workload, cut, micro_batch=micro_batch, accumulation=accumulation, recompute=recompute,
        devices_per_node=devices_per_node,
    )  # fmt: skip
    per = dict(zip(NAMES, coefficients.values.tolist(), strict=True))
    return _terms(asked.units, _parts(asked, per), per)


@dataclass(frozen=True)
class Demand:
    """What a step asks for, before anybody knows how fast: of one plan, or of many in arrays."""

    units: Units
    inline: Traffic
    states: Traffic


def demand(
    workload: Workload, cut: Cut, *, micro_batch: Count = 1, accumulation: Count = 1,
    recompute: Recomputes = "none", devices_per_node: Count = 8,
) -> Demand:  # fmt: skip
    """Arguments as in :func:`step_terms`."""
    return Demand(
        work_units(workload, cut, micro_batch, accumulation, recompute),
        stage_traffic(workload, cut, micro_batch, recompute, devices_per_node),
        state_traffic(workload, cut, accumulation, devices_per_node),
    )


@dataclass(frozen=True)
class _Parts:
    """Seconds that the terms are put together from."""

    products: Seconds
    attention: Seconds
    blockwise: Seconds
    rest: Seconds
    head: Seconds
    waiting: Seconds
    launching: Seconds
    states: Seconds
    hiding: Seconds

    @property
    def device(self) -> Seconds:
        """The device's part of one micro-batch in one stage."""
        return self.work + self.waiting

    @property
    def stage(self) -> Seconds:
        return np.hypot(self.device, self.launching)

    @property
    def work(self) -> Seconds:
        """Of the device's part, what is no waiting for others."""
        return self.products + self.attention + self.blockwise

    @property
    def cover(self) -> Seconds:
        """What one micro-batch's part of the blocks hides traffic of states behind."""
        return np.hypot(self.work, self.launching)

    @property
    def bare(self) -> Seconds:
        """Traffic of states longer than all that it can hide behind."""
        cover = self.hiding * (self.cover + self.rest + self.head)
        return np.maximum(0.0, (1 - EXPOSED) * self.states - cover)


def _parts(asked: Demand, per: dict[str, float]) -> _Parts:
    units = asked.units
    return _Parts(
        units.products * per["products"], units.attention * per["attention"],
        units.elementwise * per["elementwise"], units.rest * per["elementwise"], units.head * per["head"],
        _seconds(asked.inline, per), units.launches * per["launch"], _seconds(asked.states, per), units.hiding,
    )  # fmt: skip


def _terms(units: Units, parts: _Parts, per: dict[str, float]) -> TimeTerms:
    micro, stage = units.micro, parts.stage
    return TimeTerms(
        products=micro * parts.products, attention=micro * parts.attention,
        elementwise=micro * (parts.blockwise + parts.rest), head=micro * parts.head,
        optimizer=units.optimizer * per["optimizer"],
        communication=micro * parts.waiting + EXPOSED * parts.states + parts.bare,
        bubble=(units.stages - 1) * stage, host=micro * (stage - parts.device) + per["step"],
    )  # fmt: skip


def _seconds(traffic: Traffic, per: dict[str, float]) -> Seconds:
    """Nothing sent takes no time, even over a link that nobody knows."""
    sent = dict(_sent(traffic))
    return sum(np.where(np.asarray(amount) > 0, amount * per[name], 0.0) for name, amount in sent.items())


def _sent(traffic: Traffic) -> tuple[tuple[str, Number], ...]:
    return (
        ("all_reduce", traffic.all_reduce), ("gather", traffic.gather), ("network", traffic.network),
        ("hop", traffic.hops),
    )  # fmt: skip


def slopes(asked: Demand, coefficients: Coefficients) -> list[Seconds]:
    """Of the seconds of :func:`step_terms` by coefficient, in the order of ``NAMES``."""
    units, per = asked.units, dict(zip(NAMES, coefficients.values.tolist(), strict=True))
    parts = _parts(asked, per)
    times, bare = units.micro + units.stages - 1, np.asarray(parts.bare) > 0
    stage, cover = np.maximum(parts.stage, _TINY), np.maximum(parts.cover, _TINY)
    hidden = units.hiding * np.where(bare, 1.0, 0.0)  # of what bare traffic goes on behind
    waits = times * parts.device / stage
    works, outside = waits - hidden * parts.work / cover, units.micro - hidden
    launches = times * parts.launching / stage - hidden * parts.launching / cover
    shared = EXPOSED + np.where(bare, 1 - EXPOSED, 0.0)
    found = {
        "products": works * units.products, "attention": works * units.attention,
        "elementwise": works * units.elementwise + outside * units.rest, "head": outside * units.head,
        "optimizer": units.optimizer, "launch": launches * units.launches, "step": np.ones_like(units.micro),
    }  # fmt: skip
    for (name, within), (_, over) in zip(_sent(asked.inline), _sent(asked.states), strict=True):
        found[name] = waits * within + shared * over
    return [found[name] for name in NAMES]
