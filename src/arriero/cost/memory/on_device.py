"""Bytes by kind of one device at one moment, from the moment's lines and how the plans cut them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from arriero.cost.memory.profile import ACTIVATIONS, CLASSES, Group, Moment

if TYPE_CHECKING:
    from arriero.cost.workload import Workload

_BLOCKS_GATHERED = {"forward": 2.0, "head": 1.0, "backward": 2.0, "end": 0.0, "update": 0.0}
"""Blocks whose weights are whole: that at work and the one that is fetched, where there is another."""
_STATES = ("weights", "gradients", "optimizer")


@dataclass(frozen=True)
class Plans:
    """Columns of the plans: arrays of one length; and among which processes that was traced which they go by.

    Attributes:
        own: it is of one process of a tensor group.
    """

    workload: Workload
    own: bool
    traced: Group
    rows: np.ndarray
    accumulation: np.ndarray
    data: np.ndarray
    tensor: np.ndarray
    context: np.ndarray
    pipeline: np.ndarray
    sequence: np.ndarray
    zero: np.ndarray

    def take(self, rows: np.ndarray, own: bool, traced: Group) -> Plans:
        """Some of them, which go by such a profile."""
        columns = (getattr(self, item.name)[rows] for item in fields(self)[3:])
        return Plans(self.workload, own, traced, *columns)

    @property
    def sharers(self) -> np.ndarray:
        return self.data * self.context

    @property
    def sequences(self) -> np.ndarray:
        """Of a micro-batch, as the traced process counts them: cut sequences count by their part of a whole one, unless it
        had such parts itself."""
        return self.rows / (self.context / self.traced.context)

    @property
    def many(self) -> np.ndarray:
        """Where there are other devices to share states with."""
        found: np.ndarray = self.sharers > 1
        return found

    @property
    def layers(self) -> np.ndarray:
        """Of one stage."""
        return self.workload.dimensions.n_layers / self.pipeline

    def divisor(self, name: str) -> np.ndarray:
        """Over how many devices of a tensor group a class is still to be cut."""
        if self.own or name in ("entry", "batch", "tables", "unsharded"):
            return np.ones_like(self.tensor)
        return np.where(self.sequence > 0, self.tensor, 1.0) if name == "stream" else self.tensor


def on_device(
    moment: Moment,
    plans: Plans,
    share: np.ndarray,
    flight: np.ndarray,
    *,
    later: bool,
    head: np.ndarray,
    sides: np.ndarray,
) -> dict[str, np.ndarray]:
    """Bytes by kind of one device.

    Args:
        share: of what is in no block. flight: micro-batches whose activations wait here. later:
            whether gradients are there already. head: whether it has the head.
        sides: neighbours (or what the last stage gives back instead) with a buffer for every micro-batch.
    """
    layers, rows = plans.workload.dimensions.n_layers, plans.sequences
    waiting = np.zeros_like(rows)
    found: dict[str, np.ndarray] = {}
    for name in CLASSES:
        one = moment.one_block(name, rows)
        rest = moment.whole(name, rows) - layers * one
        if name in _STATES:
            early = name == "gradients" and not one.any()  # made by the head alone
            rest = rest * np.where(head | (not early), share, 0.0)
        elif name == "logits":
            rest = rest * head
        elif name == "batch":
            rest = rest * plans.accumulation
        value = (rest + plans.layers * one) / plans.divisor(name)
        if name in ACTIVATIONS:
            value += (flight - 1) * plans.layers * one / plans.divisor(name)
        found[name] = value
        if name == "gradients" and not later and plans.traced.sharers == 1 and moment.where != "update":
            # those of what is in no block wait whole for the end of the backward pass
            whole = np.where(plans.many & (plans.zero >= 2), np.maximum(0.0, rest) / plans.divisor(name), 0.0)
            found[name] = value - whole
            waiting = whole
    width = 4.0 * plans.workload.dimensions.d_model * plans.workload.context / plans.traced.context
    # stages hand over the stream as they have it
    parts = np.where(plans.sequence > 0, plans.tensor, 1.0)
    found["stream"] = found["stream"] + sides * plans.accumulation * rows * width / parts
    found["unsharded"] = found["unsharded"] + waiting
    return _by_kind(_sharded(moment, plans, found), plans, moment)


def on_stage(
    moment: Moment, plans: Plans, beside: Sequence[tuple[Moment | None, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Bytes by kind of one device of a pipeline's stage, which was traced as such.

    Args:
        beside: what is there too while micro-batches are under way, and how many times.
    """
    layers, rows = plans.workload.dimensions.n_layers, plans.sequences
    found: dict[str, np.ndarray] = {}
    for name in CLASSES:
        one = moment.one_block(name, rows)
        rest = moment.whole(name, rows) - layers * one
        value = rest * (plans.accumulation if name == "batch" else 1.0) + plans.layers * one
        for other, times in beside if moment.where != "update" else ():
            if other is not None:
                less = (layers - plans.layers) * other.one_block(name, rows)
                value = value + times * (other.whole(name, rows) - less)
        found[name] = value
    return _by_kind(_sharded(moment, plans, found), plans, moment)


def _sharded(moment: Moment, plans: Plans, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States over the data and context processes, and what is gathered of them while it is used: as it was traced in such a
    group, or worked out where that was one without."""
    sharers, traced = plans.sharers, plans.traced.sharers
    if traced > 1:
        return {**found, **{name: found[name] * (traced / sharers) for name in _STATES}}
    for level, name in ((3, "weights"), (2, "gradients"), (1, "optimizer")):
        found[name] = found[name] / np.where(plans.zero >= level, sharers, 1.0)
    found["unsharded"] = found["unsharded"] + _gathered(moment, plans) * (plans.many & (plans.zero >= 3))
    found["unsharded"] = found["unsharded"] + _leaving(moment, plans) * (plans.many & (plans.zero >= 2))
    return found


def _gathered(moment: Moment, plans: Plans) -> np.ndarray:
    """Weights of the block at work and, in the backward pass, of the one that is fetched; and of all that is in none."""
    layers = plans.workload.dimensions.n_layers
    one = moment.one_block("weights", plans.rows)
    rest = moment.whole("weights", plans.rows) - layers * one
    blocks = np.minimum(_BLOCKS_GATHERED[moment.where], plans.layers)
    gathered = rest * (moment.where != "update") + blocks * one
    return gathered / plans.divisor("weights")


def _leaving(moment: Moment, plans: Plans) -> np.ndarray:
    """Gradients of a block that are not yet added up and cut, while another is at work or none is any more."""
    if moment.where not in ("backward", "end"):
        return np.zeros_like(plans.rows)
    parameters = plans.workload.parameters
    share = parameters.trained / max(1, parameters.total)
    blocks = np.clip(plans.layers - 2, 0, 1) if moment.where == "backward" else 1.0
    return blocks * parameters.block * share * plans.workload.gradient_bytes / plans.tensor


def _by_kind(found: dict[str, np.ndarray], plans: Plans, moment: Moment) -> dict[str, np.ndarray]:
    keys = _gathered_keys(plans) * (moment.where in ("head", "forward", "backward", "end"))
    return {
        "weights": found["weights"] + found["tables"], "gradients": found["gradients"], "optimizer": found["optimizer"],
        "activations": sum((found[name] for name in (*ACTIVATIONS, "batch")), keys),
        "logits": found["logits"], "unsharded": found["unsharded"],
    }  # fmt: skip


def _gathered_keys(plans: Plans) -> np.ndarray:
    """Keys and values of the other context processes, kept in every block."""
    workload = plans.workload
    if plans.traced.context > 1:
        return np.zeros_like(plans.rows)
    others = (plans.context - 1) / plans.context / plans.tensor / plans.pipeline
    found: np.ndarray = workload.kv_token * workload.context * plans.rows * others
    return found
