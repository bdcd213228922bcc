"""What happened at single steps of a run: samples that it made, and what its health rules did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arriero.evaluation.scale import Scale
from arriero.recipe.report.curves import Mark
from arriero.recipe.report.data import StageLine

MOST_EVENTS = 20
"""Rows of the table; the newest, as those before lead there seldom."""
_MOST_SAMPLES = 6
_KINDS = ("skipped", "spike", "corruption")


@dataclass(frozen=True)
class SampleRow:
    step: str
    text: str


@dataclass(frozen=True)
class PromptSamples:
    """What the model made of a prompt as the run went on; ``left_out`` evaluations between are not shown."""

    prompt: str
    rows: list[SampleRow]
    left_out: int


@dataclass(frozen=True)
class EventRow:
    step: str
    event: str
    why: str


def samples_by_prompt(metrics: Sequence[dict[str, Any]]) -> list[PromptSamples]:
    """Samples in the order of the prompts; of many evaluations some, the first and the last among them."""
    found: dict[str, list[SampleRow]] = {}
    for line in metrics:
        for sample in line.get("samples") or []:
            row = SampleRow(f"{line.get('step', 0):,}", sample["text"].strip())
            found.setdefault(sample["prompt"], []).append(row)
    sets = []
    for prompt, rows in found.items():
        kept = _some(rows)
        sets.append(PromptSamples(prompt, kept, len(rows) - len(kept)))
    return sets


def _some(rows: list[SampleRow]) -> list[SampleRow]:
    if len(rows) <= _MOST_SAMPLES:
        return rows
    last = len(rows) - 1
    return [rows[round(i * last / (_MOST_SAMPLES - 1))] for i in range(_MOST_SAMPLES)]


def health_events(stage: StageLine) -> list[dict[str, Any]]:
    """Steps that were skipped, spikes and corruption, as the run's facts have them."""
    events = stage.facts.get("events") or []
    return [event for event in events if isinstance(event, dict) and isinstance(event.get("step"), int)]


def event_rows(events: Sequence[dict[str, Any]]) -> list[EventRow]:
    """The last events as a table."""
    return [
        EventRow(f"{event['step']:,}", str(event.get("event", "")), str(event.get("why", "")))
        for event in events[-MOST_EVENTS:]
    ]


def event_marks(events: Sequence[dict[str, Any]], x: Scale) -> list[Mark]:
    """Where they stand on the axis of the steps."""
    return [
        Mark(x.at(event["step"]), kind, f"step {event['step']:,}, {kind}: {event.get('why', '')}")
        for event in events
        for kind in [str(event.get("event", ""))]
        if kind in _KINDS
    ]
