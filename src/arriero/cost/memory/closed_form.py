"""Memory of one device under any layout, of one plan or of a hundred thousand at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from arriero.cost.cut import Cut
from arriero.cost.memory.basis import bases
from arriero.cost.memory.kinds import KINDS, MemoryByKind, of_kinds
from arriero.cost.memory.on_device import Plans, on_device
from arriero.cost.memory.profile import Group, MemoryProfile, Moment
from arriero.cost.memory.stages import stage_moments

if TYPE_CHECKING:
    from arriero.cost.workload import Workload

Number: TypeAlias = "float | np.ndarray"
MARGIN = (0.0, 0.2)
"""Share of the allocated bytes that an accelerator's allocator holds besides: torchtitan's published reserved peaks are
1.16 and 1.20 of the allocated ones; none of it where blocks happen to fit."""


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

    Exact for one device (to the straightness of its lines); for others as one process of such a group was traced, and of
    such a stage (1F1B), where the workload can trace them; else, and for ``zero`` 1 and 2, by what they leave of one device.
    Every number may be an array, all of one shape.

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
    name = ""
    plans = Plans(workload, False, Group(), *columns)
    for some, basis in bases(workload, plans, modes, stage):
        name = next(iter(basis.profiles.values())).basis
        these = plans.take(some, basis.own, basis.group)
        for rows, sized in basis.by_sequences(these):
            mine = these.take(rows, basis.own, basis.group)
            moments = (
                stage_moments(sized.profiles, mine, stage)
                if basis.staged
                else _moments(sized.whole, mine, stage)
            )
            for kind, values in _worst(moments, mine).items():
                found[kind][some[rows]] = values
    kinds = {kind: values.reshape(shape) if shape else float(values[0]) for kind, values in found.items()}
    runtime = np.broadcast_to(np.asarray(runtime_bytes, dtype=float), shape)
    kinds["runtime"] = runtime if shape else float(runtime)
    memory = of_kinds(kinds, (0.0, 0.0), name)
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


def _worst(
    moments: Iterator[tuple[dict[str, np.ndarray], np.ndarray]], plans: Plans
) -> dict[str, np.ndarray]:
    """Kinds at the moment (and of the stage) at which most lives."""
    best: dict[str, np.ndarray] = {}
    total = np.full_like(plans.rows, -np.inf)
    for kinds, counts in moments:
        mine = np.where(counts, sum(kinds.values()), -np.inf)
        more = mine > total
        total = np.where(more, mine, total)
        best = {kind: np.where(more, kinds[kind], best.get(kind, 0.0)) for kind in kinds}
    return best


def _moments(
    profile: MemoryProfile, plans: Plans, stage: int | None
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """(kinds, which plans have it) of every moment of every stage that may be the worst."""
    cut = plans.pipeline > 1
    for moments, counts in ((profile.first, plans.accumulation > 0), (profile.later, plans.accumulation > 1)):
        later = moments is profile.later
        for moment in moments:
            mine = counts & moment.counts(plans.sequences)
            if not mine.any():
                continue
            if stage in (None, 0):
                yield (
                    _first_stage(moment, plans, later),
                    mine & ((moment.where != "head") | ~cut),
                )
            if stage != 0 and cut.any():
                yield _last_stage(moment, plans, later, stage), mine & cut
            if stage not in (None, 0) and not cut.all():
                yield _first_stage(moment, plans, later), mine & ~cut


def _first_stage(moment: Moment, plans: Plans, later: bool) -> dict[str, np.ndarray]:
    """Of the stage with the embedding, which keeps most micro-batches; the whole model without a pipeline."""
    parameters, cut = plans.workload.parameters, plans.pipeline > 1
    share = np.where(cut, _embedding_share(parameters.looked_up, parameters.rest), 1.0)
    flight = np.where(cut, _in_flight(plans.pipeline, plans.accumulation, later), 1.0)
    return on_device(moment, plans, share, flight, later=later, head=~cut, sides=cut * 1.0)


def _last_stage(moment: Moment, plans: Plans, later: bool, stage: int | None) -> dict[str, np.ndarray]:
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
    return on_device(moment, plans, share, flight, later=later, head=last, sides=np.full_like(flight, 2.0))


def _in_flight(most: np.ndarray, accumulation: np.ndarray, later: bool) -> np.ndarray:
    """Micro-batches whose activations wait: gradients are there (``later``) only after one of them has gone back."""
    found: np.ndarray = np.minimum(most, accumulation - 1 if later else accumulation)
    return found


def _embedding_share(looked_up: int, rest: int) -> float:
    """Share of the first stage in what is in no block; a tied table is in the first stage and in the last."""
    return looked_up / rest if looked_up and rest else 1.0


__all__ = ["MARGIN", "device_memory", "serving_memory"]
