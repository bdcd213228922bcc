"""What a run told of itself while it trained: curves, samples and what its health rules did."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from arriero.cost.units import format_bytes, format_count
from arriero.evaluation.scale import Scale
from arriero.evaluation.svg_plot import COLOURS
from arriero.recipe.report.curves import (
    Axis,
    Curve,
    Points,
    Series,
    draw,
    draw_stacked,
    joined_end,
    series,
    step_scale,
)
from arriero.recipe.report.data import ReportData, StageLine
from arriero.recipe.report.moments import (
    MOST_EVENTS,
    EventRow,
    PromptSamples,
    event_marks,
    event_rows,
    health_events,
    samples_by_prompt,
)

HELD_OUT = "heldout_"
BITS, LOSS = "heldout_bits_per_byte", "heldout_loss"
_TITLES = {
    "preference_accuracy": "pairs put in order", "reward_accuracy": "pairs put in order by the reward",
    "task_answer_loss": "answers of a task, nats a token", "task_preference_accuracy": "pairs of a task put in order",
}  # fmt: skip
_SPENT = ("tokens_seen", "cpu_seconds", "train_seconds", "seconds", "step")
"""Positions and clocks: known from the axis and the cost table."""
_MACHINE = ("lr", "grad_norm", "tokens_per_s", "mfu", "memory_bytes", "data_wait_share")
_FEW_STAGES = 3
"""Up to so many training stages show everything at once."""
_FIRST_COLOUR = 3
_PARTS = {"weights_bytes": "weights", "gradients_bytes": "gradients", "optimizer_bytes": "optimizer"}


@dataclass(frozen=True)
class TrainingPart:
    """One training stage.

    Attributes:
        loss: the large chart, with its health events as marks; the objective's other figures come after it.
        machine: learning rate, gradient, speed, memory.
        formula: what MFU is, with its value over the whole run.
        folded: the machine's charts are behind a click, because there are many stages.
    """

    stage: str
    kind: str
    loss: Curve
    figures: list[Curve]
    machine: list[Curve]
    formula: str
    samples: list[PromptSamples]
    events: list[EventRow]
    events_left_out: int
    folded: bool


def training_parts(data: ReportData) -> list[TrainingPart]:
    """A part for every stage that logged a loss by step."""
    parts = [part for stage in data.stages if stage.metrics if (part := _part(stage)) is not None]
    return [replace(part, folded=len(parts) > _FEW_STAGES) for part in parts]


def _part(stage: StageLine) -> TrainingPart | None:
    x = step_scale(stage.metrics)
    loss = _pair(stage, x, "loss", "loss") if x is not None else None
    if x is None or loss is None:
        return None
    events = health_events(stage)
    return TrainingPart(
        stage=stage.name, kind=stage.kind, loss=replace(loss, marks=event_marks(events, x)),
        figures=_present([_by_source(stage, x), *_others(stage, x)]), machine=_machine(stage, x),
        formula=_formula(stage.facts.get("mfu")), samples=samples_by_prompt(stage.metrics),
        events=event_rows(events), events_left_out=max(0, len(events) - MOST_EVENTS), folded=False,
    )  # fmt: skip


# ------------------------------------------------------------------- what was learnt


def _pair(stage: StageLine, x: Scale, name: str, title: str) -> Curve | None:
    """A training figure and the held-out one of the same name."""
    if name.startswith("task_"):  # scored on held-out items, whatever the objective is
        train, heldout = [], series(stage.metrics, name)
    else:
        train, heldout = joined_end(series(stage.metrics, name)), series(stage.metrics, HELD_OUT + name)
    lines = [Series(train, "train"), Series(heldout, "heldout", dots=True)]
    return draw(title, lines, x, _caption(train, heldout))


def _caption(train: Points, heldout: Points) -> str:
    parts = [f"ends at {train[-1][1]:.3f}"] if train else []
    if len(heldout) > 1:
        parts.append(f"held out {heldout[0][1]:.3f} → {heldout[-1][1]:.3f}")
    elif heldout:
        parts.append(f"held out {heldout[-1][1]:.3f}")
    return " · ".join(parts)


def _by_source(stage: StageLine, x: Scale) -> Curve | None:
    """Held-out bits per byte, a line for each source of a mixture; nats a token where the bytes are not known."""
    names = _names(stage.metrics)
    for whole_name, title in ((BITS, "held-out bits per byte"), (LOSS, "held-out loss")):
        of_sources = [name for name in names if name.startswith(whole_name + "_")]
        if not of_sources:
            continue
        lines = []
        for number, name in enumerate(of_sources):
            points = series(stage.metrics, name)
            text = f"{name.removeprefix(whole_name + '_')} {points[-1][1]:.3f}" if points else ""
            lines.append(Series(points, _colour(number), text, dots=True))
        whole = series(stage.metrics, whole_name)
        caption = f"of the mixture {whole[-1][1]:.3f}, by the sources' shares" if whole else ""
        return draw(f"{title} of each source", lines, x, caption)
    bits = series(stage.metrics, BITS)
    return draw("held-out bits per byte", [Series(bits, "heldout", dots=True)], x, _caption([], bits))


def _others(stage: StageLine, x: Scale) -> list[Curve | None]:
    """The figures that belong to the objective, and those of tasks scored during the run."""
    known = {"loss", *_MACHINE, *_SPENT, *_PARTS}
    shown = [name for name in _names(stage.metrics) if not name.startswith((BITS, LOSS))]
    names = dict.fromkeys(name.removeprefix(HELD_OUT) for name in shown)
    return [
        _pair(stage, x, name, _TITLES.get(name, name.replace("_", " ")))
        for name in names
        if name not in known
    ]


# ------------------------------------------------------------------- what the machine did


def _machine(stage: StageLine, x: Scale) -> list[Curve]:
    def chart(name: str, title: str, tick: Callable[[float], str], axis: Axis = "zero") -> Curve | None:
        points = series(stage.metrics, name)
        values = [value for _, value in points] or [0.0]
        caption = f"median {tick(statistics.median(values))}"
        if name == "lr":
            caption = f"highest {tick(max(values))}, last {tick(values[-1])}"
        return draw(title, [Series(points, "train")], x, caption, axis=axis, tick=tick)

    return _present([
        chart("lr", "learning rate", lambda value: f"{value:.3g}"),
        chart("grad_norm", "gradient norm", lambda value: f"{value:.3g}", "log"),
        chart("tokens_per_s", "tokens/s", _count),
        chart("mfu", "MFU", _percent),
        _memory(stage, x),
        chart("data_wait_share", "share of the time waiting for data", _percent),
    ])  # fmt: skip


def _memory(stage: StageLine, x: Scale) -> Curve | None:
    """What the process holds, by kind; what is left of it are activations, data and code."""
    lines = [line for line in stage.metrics if isinstance(line.get("memory_bytes"), int | float)]
    parts = [(name, title) for name, title in _PARTS.items() if all(name in line for line in lines)]
    if not lines:
        return None
    stack = [
        Series(points, _colour(number), f"{title} {format_bytes(points[-1][1])}")
        for number, (name, title) in enumerate(parts)
        for points in [series(lines, name)]
    ]
    known = [sum(line[name] for name, _ in parts) for line in lines]
    rest = [
        (step, max(0.0, held - own))
        for (step, held), own in zip(series(lines, "memory_bytes"), known, strict=True)
    ]
    stack.append(Series(rest, "c0", f"the rest {format_bytes(rest[-1][1])}"))
    most = max(line["memory_bytes"] for line in lines)
    caption = f"{format_bytes(most)} at most; the rest: activations, data, code"
    return draw_stacked("memory", stack, x, caption, tick=lambda value: format_bytes(value, 2))


def _formula(mfu: Any) -> str:
    if not isinstance(mfu, dict) or "formula" not in mfu:
        return ""
    text = f"MFU over the whole run {_percent(mfu['value'])}: {mfu['formula']}"
    if "peak_flops_per_s" in mfu:
        text += f". The product: {mfu['peak_flops_per_s'] / 1e9:,.0f} GFLOP/s in {mfu['precision']}"
    return text


# ------------------------------------------------------------------- small things


def _names(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Figures in the order in which they first occur."""
    found: dict[str, None] = {}
    for line in metrics:
        found.update(dict.fromkeys(name for name, value in line.items() if isinstance(value, int | float)))
    return list(found)


def _present(curves: Sequence[Curve | None]) -> list[Curve]:
    return [curve for curve in curves if curve is not None]


def _colour(number: int) -> str:
    """Class of the line; those that look like training and held-out lines come last."""
    return f"c{1 + (number + _FIRST_COLOUR - 1) % (len(COLOURS) - 1)}"


def _count(value: float) -> str:
    """ "60 k"; with a digit after the point only where it says something."""
    return format_count(value).replace(".00 ", " ").replace(".0 ", " ")


def _percent(share: float) -> str:
    return f"{float(f'{100 * share:.2g}'):g} %"
