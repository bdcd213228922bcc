"""Every stage's settings and facts, for who wants to know exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from arriero.cost.units import format_bytes
from arriero.recipe.report.data import ReportData, StageLine

_LONGEST = 160


@dataclass(frozen=True)
class Detail:
    """One stage: label and text pairs."""

    name: str
    kind: str
    made: str
    key: str
    size: str
    inputs: str
    error: str | None
    notes: list[str]
    settings: list[tuple[str, str]]
    facts: list[tuple[str, str]]


def details(data: ReportData) -> list[Detail]:
    """One entry a stage."""
    return [_detail(stage) for stage in data.stages]


def _detail(stage: StageLine) -> Detail:
    return Detail(
        stage.name, stage.kind, stage.made, stage.key[:12], format_bytes(stage.bytes), ", ".join(stage.inputs),
        stage.error, stage.notes, _pairs(stage.settings), _pairs(stage.facts),
    )  # fmt: skip


def _pairs(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Figures and short texts; what is unset or a long table is left to report.json."""
    return [
        (name.replace("_", " "), text) for name, value in values.items() if (text := _text(value)) is not None
    ]


def _text(value: Any) -> str | None:
    if value is None or value == [] or value == {} or value == "":
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else None
