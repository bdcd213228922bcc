"""Memory of one device under any layout, of one plan or of a hundred thousand at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.memory.kinds import KINDS, MemoryByKind, of_kinds
from arriero.cost.memory.profile import ACTIVATIONS, CLASSES, MemoryProfile, Moment, profile_of
from arriero.errors import ArrieroError

if TYPE_CHECKING:
    from arriero.cost.workload import Workload

Number: TypeAlias = "float | np.ndarray"
MARGIN = (0.0, 0.2)
"""Share of the allocated bytes that an accelerator's allocator holds besides: torchtitan's published reserved peaks are
1.16 and 1.20 of the allocated ones; none of it where blocks happen to fit."""
_BLOCKS_GATHERED = {"forward": 2.0, "head": 1.0, "backward": 2.0, "update": 0.0}
_STATES = ("weights", "gradients", "optimizer")


def device_memory(
    workload: Workload,
    cut: Cut,
    *,
    micro_batch: Number,
    recompute: str | np.ndarray,
    accumulation: Number = 1,
    runtime_bytes: Number = 0.0,
    margin: tuple[float, float] = MARGIN,
    stage: int | None = None,
) -> MemoryByKind:
    """What the device that needs most holds at its worst moment of a training step.

    Exact for one device (to the straightness of its lines); under ``tensor`` as one process of such a group was traced;
    under ``zero`` 3 with the buffers that FSDP gathers; context and pipeline by what they cut of each class. Every
    number may be an array, all of one shape.

    Args:
        micro_batch: sequences that go through the model at once, on one data process.
        recompute: none, selective or full, or an array of these.
        accumulation: micro-batches of a step.
        runtime_bytes: what the process takes before anything is allocated.
        margin: (low, high) share of the allocated bytes that the allocator holds besides.
        stage: of the pipeline, from 0; -1 the last; None: the one that needs most.

    Raises:
        ArrieroError: the workload says nothing of this kind of recomputation.
    """
    numbers = np.broadcast_arrays(
        *(np.asarray(x, dtype=float) for x in (
            micro_batch, accumulation, cut.data, cut.tensor, cut.context, cut.pipeline, cut.sequence, cut.zero
        )), np.empty(np.shape(recompute))
    )  # fmt: skip
    shape = numbers[0].shape
    columns = [x.reshape(-1) for x in numbers[:-1]]
    modes = np.broadcast_to(np.asarray(recompute), shape).reshape(-1)
    found = {kind: np.zeros(modes.size) for kind in KINDS}
    basis = ""
    for mine in _alike(modes, columns[3], columns[6]):
        first = mine[0]
        profile, own = _profile(workload, str(modes[first]), int(columns[3][first]), bool(columns[6][first]))
        basis = profile.basis
        plans = _Plans(workload, own, *(column[mine] for column in columns))
        for kind, values in _worst(profile, plans, stage).items():
            found[kind][mine] = values
    kinds = {kind: values.reshape(shape) if shape else float(values[0]) for kind, values in found.items()}
    runtime = np.broadcast_to(np.asarray(runtime_bytes, dtype=float), shape)
    kinds["runtime"] = runtime if shape else float(runtime)
    memory = of_kinds(kinds, (0.0, 0.0), basis)
    return replace(memory, margin=(memory.allocated * margin[0], memory.allocated * margin[1]))


def serving_memory(
    workload: Workload,
    cut: Cut,
    *,
    sequences: Number,
    context: Number | None = None,
    runtime_bytes: Number = 0.0,
    margin: tuple[float, float] = MARGIN,
) -> MemoryByKind:
    """What the fullest device holds while ``sequences`` of ``context`` tokens are generated at once.

    Weights and keys and values over ``tensor`` and ``pipeline`` (keys and values over no more than their heads); work of
    one block and the scores of one token each.
    """
    length = workload.context if context is None else context
    heads = np.minimum(cut.tensor, workload.dimensions.n_kv_heads)
    weights = workload.parameters.weight_bytes / (cut.tensor * cut.pipeline)
    kv = workload.kv_token * length * sequences / (heads * cut.pipeline)
    work = sequences * workload.work_peak / workload.context / cut.tensor
    logits = 4.0 * sequences * workload.dimensions.vocab_size / cut.tensor
    kinds = {"weights": weights, "kv": kv, "activations": work, "logits": logits, "runtime": runtime_bytes}
    memory = of_kinds(kinds, (0.0, 0.0), "fields")
    return replace(memory, margin=(memory.allocated * margin[0], memory.allocated * margin[1]))


def _alike(modes: np.ndarray, tensor: np.ndarray, sequence: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of the plans that go by the same profile."""
    _, kinds = np.unique(modes, return_inverse=True)
    numbers = (kinds * (tensor.max(initial=0.0) + 1) + tensor) * 2 + (sequence > 0)
    for number in np.unique(numbers):
        yield np.flatnonzero(numbers == number)


def _profile(workload: Workload, mode: str, tensor: int, sequence: bool) -> tuple[MemoryProfile, bool]:
    try:
        return profile_of(workload, mode, tensor, sequence)  # type: ignore[arg-type]
    except KeyError:
        known = ", ".join(dict.fromkeys([*workload.memory, *workload.saved_block]))
        raise ArrieroError(
            f"workload {workload.name} was not traced with recompute {mode}; it was with {known}"
        ) from None


@dataclass(frozen=True)
class _Plans:
    """Columns of the plans: arrays of one length; and whether their profile is of one process of a tensor group."""

    workload: Workload
    own: bool
    rows: np.ndarray
    accumulation: np.ndarray
    data: np.ndarray
    tensor: np.ndarray
    context: np.ndarray
    pipeline: np.ndarray
    sequence: np.ndarray
    zero: np.ndarray

    @property
    def sharers(self) -> np.ndarray:
        return self.data * self.context

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
        if self.own or name in ("entry", "batch"):
            return np.ones_like(self.tensor)
        return np.where(self.sequence > 0, self.tensor, 1.0) if name == "stream" else self.tensor


def _worst(profile: MemoryProfile, plans: _Plans, stage: int | None) -> dict[str, np.ndarray]:
    """Kinds at the moment (and of the stage) at which most lives."""
    best: dict[str, np.ndarray] = {}
    total = np.full_like(plans.rows, -np.inf)
    for kinds, counts in _moments(profile, plans, stage):
        mine = np.where(counts, sum(kinds.values()), -np.inf)
        more = mine > total
        total = np.where(more, mine, total)
        best = {kind: np.where(more, kinds[kind], best.get(kind, 0.0)) for kind in kinds}
    return best


def _moments(
    profile: MemoryProfile, plans: _Plans, stage: int | None
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """(kinds, which plans have it) of every moment of every stage that may be the worst."""
    cut = plans.pipeline > 1
    for moments, counts in ((profile.first, plans.accumulation > 0), (profile.later, plans.accumulation > 1)):
        later = moments is profile.later
        for moment in moments:
            mine = counts & moment.counts(plans.rows / plans.context)
            if not mine.any():
                continue
            if stage in (None, 0):
                yield _first_stage(moment, plans, later), mine & ((moment.where != "head") | ~cut)
            if stage != 0 and cut.any():
                yield _last_stage(moment, plans, later, stage), mine & cut
            if stage not in (None, 0) and not cut.all():
                yield _first_stage(moment, plans, later), mine & ~cut


def _first_stage(moment: Moment, plans: _Plans, later: bool) -> dict[str, np.ndarray]:
    """Of the stage with the embedding, which keeps most micro-batches; the whole model without a pipeline."""
    parameters, cut = plans.workload.parameters, plans.pipeline > 1
    share = np.where(cut, _embedding_share(parameters.looked_up, parameters.rest), 1.0)
    flight = np.where(cut, _in_flight(plans.pipeline, plans.accumulation, later), 1.0)
    return _on_device(moment, plans, share, flight, later=later, head=~cut, sides=cut * 1.0)


def _last_stage(moment: Moment, plans: _Plans, later: bool, stage: int | None) -> dict[str, np.ndarray]:
    """Of the stage with the head (or of one in between, by its number), where one micro-batch less waits per stage."""
    parameters = plans.workload.parameters
    behind = (
        np.zeros_like(plans.pipeline)
        if stage in (None, -1)
        else np.maximum(0, plans.pipeline - 1 - (stage or 0))
    )
    last = behind == 0
    share = np.where(
        last, 1.0 - _embedding_share(parameters.looked_up, parameters.rest) * (parameters.looked_up > 0), 0.0
    )
    flight = _in_flight(behind + 1, plans.accumulation, later)
    return _on_device(moment, plans, share, flight, later=later, head=last, sides=np.full_like(flight, 2.0))


def _in_flight(most: np.ndarray, accumulation: np.ndarray, later: bool) -> np.ndarray:
    """Micro-batches whose activations wait: gradients are there (``later``) only after one of them has gone back."""
    found: np.ndarray = np.minimum(most, accumulation - 1 if later else accumulation)
    return found


def _embedding_share(looked_up: int, rest: int) -> float:
    """Share of the first stage in what is in no block; a tied table is in the first stage and in the last."""
    return looked_up / rest if looked_up and rest else 1.0


def _on_device(
    moment: Moment,
    plans: _Plans,
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
    layers, rows = plans.workload.dimensions.n_layers, plans.rows / plans.context
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
        elif name == "unsharded":
            continue
        value = (rest + plans.layers * one) / plans.divisor(name)
        if name in ACTIVATIONS:
            value += (flight - 1) * plans.layers * one / plans.divisor(name)
        found[name] = value
        if name == "gradients" and not later and moment.where != "update":
            # those of what is in no block wait whole for the end of the backward pass
            whole = np.where(plans.many & (plans.zero >= 2), np.maximum(0.0, rest) / plans.divisor(name), 0.0)
            found[name] = value - whole
            waiting = whole
    width = 4.0 * plans.workload.dimensions.d_model * plans.workload.context
    found["stream"] = found["stream"] + sides * plans.accumulation * rows * width
    found["unsharded"] = waiting
    return _by_kind(_sharded(moment, plans, found), plans, moment)


def _sharded(moment: Moment, plans: _Plans, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """States over the data and context processes, and what is gathered of them while it is used."""
    sharers = plans.sharers
    for level, name in ((3, "weights"), (2, "gradients"), (1, "optimizer")):
        found[name] = found[name] / np.where(plans.zero >= level, sharers, 1.0)
    found["unsharded"] = found["unsharded"] + _gathered(moment, plans) * (plans.many & (plans.zero >= 3))
    found["unsharded"] = found["unsharded"] + _leaving(moment, plans) * (plans.many & (plans.zero >= 2))
    return found


def _gathered(moment: Moment, plans: _Plans) -> np.ndarray:
    """Weights of the block at work and, in the backward pass, of the one that is fetched; and of all that is in none."""
    layers = plans.workload.dimensions.n_layers
    one = moment.one_block("weights", plans.rows)
    rest = moment.whole("weights", plans.rows) - layers * one
    gathered = rest * (moment.where != "update") + _BLOCKS_GATHERED[moment.where] * one
    return gathered / plans.divisor("weights")


def _leaving(moment: Moment, plans: _Plans) -> np.ndarray:
    """Gradients of a block that are not yet added up and cut."""
    if moment.where != "backward":
        return np.zeros_like(plans.rows)
    parameters = plans.workload.parameters
    share = parameters.trained / max(1, parameters.total)
    return parameters.block * share * plans.workload.gradient_bytes / plans.tensor


def _by_kind(found: dict[str, np.ndarray], plans: _Plans, moment: Moment) -> dict[str, np.ndarray]:
    keys = _gathered_keys(plans) * (moment.where in ("head", "forward", "backward"))
    return {
        "weights": found["weights"], "gradients": found["gradients"], "optimizer": found["optimizer"],
        "activations": sum((found[name] for name in (*ACTIVATIONS, "batch")), keys),
        "logits": found["logits"], "unsharded": found["unsharded"],
    }  # fmt: skip


def _gathered_keys(plans: _Plans) -> np.ndarray:
    """Keys and values of the other context processes, kept in every block."""
    workload = plans.workload
    others = (plans.context - 1) / plans.context / plans.tensor / plans.pipeline
    found: np.ndarray = workload.kv_token * workload.context * plans.rows * others
    return found


__all__ = ["MARGIN", "device_memory", "serving_memory"]
