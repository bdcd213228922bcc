"""The counts of a workload, traced: what one block, one sequence and the rest take, and what is held."""

from __future__ import annotations

from typing import Any

from arriero.cost.workload import Recompute
from arriero.models.config import ModelConfig
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.blocks import blocks_of, head_of
from arriero.planning.counts.depths import depths_of
from arriero.planning.counts.held import head_gradient, held_by, unpacking
from arriero.planning.counts.passes import Passes
from arriero.planning.counts.subject import Subject


def counted(config: ModelConfig, subject: Subject) -> dict[str, Any]:
    """Fields of a workload that hold whatever is recomputed, by name."""
    depths = depths_of(config)
    plain = blocks_of(depths, subject, "none")
    one, rest = plain.one.each, plain.rest
    head, head_peak = head_of(depths.base, subject)
    beside = rest.plus(head)
    gradient, held = head_gradient(subject, depths.base), held_by(subject, depths)
    return {
        "parameters": held.parameters,
        "forward_block": one.forward, "forward_rest": beside.each.forward,
        "backward_block": one.backward, "backward_rest": beside.each.backward,
        "saved_rest": beside.each.saved, "head_peak": head_peak,
        "work_peak": plain.work.each.backward_peak, "work_once": plain.work.once.backward_peak,
        "gradient_bytes": held.gradient, "state_bytes": held.state,
        "once_block": plain.one.once.both + 2.0 * unpacking(subject, depths), "once_rest": beside.once.both,
        "saved_once_rest": beside.once.saved - gradient, "head_gradient": gradient,
        **_attention(config, subject.context, one * depths.layers + beside.each),
        "uncounted": tuple(sorted(head.each.uncounted | one.uncounted | rest.each.uncounted)),
    }  # fmt: skip


def counted_mode(config: ModelConfig, subject: Subject, mode: Recompute) -> dict[str, Any]:
    """What a mode of recomputation changes: work done again, bytes kept for each sequence and once."""
    depths = depths_of(config)
    found, plain = (blocks_of(depths, subject, m).one for m in (mode, "none"))
    again = found.each.backward - plain.each.backward
    return {"again": again, "saved": found.each.saved, "once": found.once.saved}


def _attention(config: ModelConfig, context: int, found: Passes) -> dict[str, float]:
    """``square`` and ``needed`` of a workload."""
    counted = found.forward.attention
    if not counted:
        return {"square": 1.0, "needed": 1.0}
    needed = counted
    if isinstance(config, DecoderConfig):  # a token sees half the square, or less of it
        window = min(config.sliding_window or context, context)
        needed = found.square * (window * context - window**2 / 2) / context**2
    return {"square": found.square / counted, "needed": needed / counted}
