"""The memory of a training step as its own code takes it, on fake tensors: the truth that the closed form is held to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from arriero.cost.memory.closed_form import MARGIN
from arriero.cost.memory.kinds import MemoryByKind, of_kinds
from arriero.cost.memory.profile import ACTIVATIONS, CLASSES
from arriero.models.config import ModelConfig
from arriero.planning.counts.depths import Depths, Kind, depths_of
from arriero.planning.memory.corners import deeper, named
from arriero.planning.memory.layouts import logged_rank
from arriero.planning.memory.log import Label, Stretch
from arriero.planning.memory.profile import at_depth
from arriero.planning.memory.step import logged_step
from arriero.training.objectives.base import Shape
from arriero.training.parallel.layout import Layout
from arriero.training.traced import Work

WHOLE = 8
"""Models of up to so many blocks (on a device) are traced whole; deeper ones at two depths."""


def traced_memory(
    work: Work,
    shapes: Sequence[Shape],
    *,
    layout: Layout | None = None,
    rank: int = 0,
    whole: bool = False,
    runtime_bytes: float = 0.0,
    margin: tuple[float, float] = MARGIN,
) -> MemoryByKind:
    """What one process holds at the worst moment of a step over micro-batches of these shapes.

    Deep models are traced at two depths, and every stretch of the step goes along its own straight line, so that the
    peak may move from one to another.

    Args:
        shapes: of the micro-batches that this process works on (with others, where tensor, context or pipeline cut them).
        layout: of all processes; None: one alone. rank: which of them.
        whole: trace all blocks, however many.
        runtime_bytes, margin: as in ``device_memory``.

    Raises:
        ArrieroError: the layout does not fit what is trained.
    """

    def step(config: ModelConfig) -> Mapping[Label, Stretch]:
        if layout is None or layout.size == 1:
            return named(logged_step(work, config, shapes).log.stretches())
        return named(logged_rank(work, config, shapes, layout, rank).log.stretches())

    stages = 1 if layout is None else layout.pipeline
    found = _worst_of(step, work.config, stages, whole)
    classes = dict(zip(CLASSES, map(float, found), strict=True))
    kinds = {name: classes[name] for name in ("gradients", "optimizer", "logits", "unsharded")}
    kinds["weights"] = classes["weights"] + classes["tables"]
    kinds["activations"] = sum(classes[name] for name in (*ACTIVATIONS, "batch"))
    memory = of_kinds({**kinds, "runtime": runtime_bytes}, (0.0, 0.0), "traced")
    return replace(memory, margin=(memory.allocated * margin[0], memory.allocated * margin[1]))


def _worst_of(
    step: Callable[[ModelConfig], Mapping[Label, Stretch]], config: ModelConfig, stages: int, whole: bool
) -> np.ndarray:
    """Bytes by class at the worst moment of the whole depth."""
    depths = _depths(config, stages)
    if whole or depths.layers <= WHOLE * stages or not depths.kinds:
        return _largest(stretch.worst for stretch in step(config).values())
    base, more = step(depths.base), [step(kind.more) for kind in depths.kinds]
    everywhere = [label for label in base if all(label in found for found in more)]
    lines = []
    for label in everywhere:
        slopes = [found[label].worst - base[label].worst for found in more]
        lines.append(at_depth(depths, base[label].worst, slopes))
    return _largest(lines)


def _depths(config: ModelConfig, stages: int) -> Depths:
    depths = depths_of(config)
    if stages == 1:
        return deeper(depths)
    # a block more in every stage: the step from one depth to the next is that of so many blocks
    layers = depths.layers // stages
    few, more = (config.model_copy(update={"n_layers": n * stages}) for n in (2, 3))
    return Depths(few, (Kind(more, layers, 2, layers),))


def _largest(found: object) -> np.ndarray:
    largest: np.ndarray = max(found, key=lambda bytes: float(bytes.sum()))  # type: ignore[call-overload]
    return largest
