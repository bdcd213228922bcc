"""A goal's answer for machines: JSON with the Pareto set, CSV with every plan."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from arriero.cost.search.columns import MODES, Range
from arriero.errors import ArrieroError
from arriero.planning.goal.answer import GoalAnswer
from arriero.planning.goal.others import Other
from arriero.planning.goal.words import MEMORY_KINDS

_FIGURES = {"seconds": "s", "money": "", "energy": "J", "co2": "g", "memory": "B"}
_LAYOUT = ("devices", "data", "tensor", "context", "pipeline", "zero", "micro_batch", "accumulation")


def to_json(answer: GoalAnswer) -> dict[str, Any]:
    """Everything on the screen and the whole Pareto set: seconds, joules, grams, bytes; null where unknown."""
    question = answer.question
    return {
        "format": "arriero.goal/1",
        "goal": question.goal,
        "model": question.name,
        "tokens": question.tokens,
        "deadline_seconds": question.deadline,
        "budget": question.budget,
        "currency": answer.words.currency,
        "judged_by": question.judged_by,
        "batch_sequences": answer.batch,
        "context": answer.words.variants[0].workload.context,
        "plans": len(answer.search.plans),
        "fit": int((answer.search.verdict.shortage <= 0).sum()),
        "do": int(answer.search.verdict.good.sum()),
        "best": None if answer.best is None else plan_json(answer, answer.best),
        "ties": _ties(answer),
        "closest": None if answer.closest is None else plan_json(answer, answer.closest),
        "pareto": [plan_json(answer, int(row)) for row in answer.pareto],
        "others": [_other(answer, other) for other in answer.others],
        "unknown": [_other(answer, other) for other in answer.unknown],
        "doubts": [{"name": d.name, "low": d.low, "high": d.high, "text": d.text} for d in answer.doubts],
        "next_action": answer.action,
        "left_out": answer.left_out,
    }


def _ties(answer: GoalAnswer) -> dict[str, Any] | None:
    """Plans that the figures cannot tell from the best: how many, and the simplest of them all; null where there are none."""
    if answer.best is None:
        return None
    rows = answer.search.ties(answer.best)
    if not len(rows):
        return None
    simplest = answer.search.simplest(np.append(rows, answer.best))
    return {"count": len(rows), "simplest": plan_json(answer, simplest)}


def _other(answer: GoalAnswer, other: Other) -> dict[str, Any]:
    return {"label": other.label, "why": other.why, "does": other.does, **plan_json(answer, other.row)}


def plan_json(answer: GoalAnswer, row: int) -> dict[str, Any]:
    """One plan: its layout, its figures with their bands, and what it misses."""
    words, scores = answer.words, answer.search.scores
    figures: dict[str, Any] = {}
    for name, unit in _FIGURES.items():
        figures[name] = {**_ends(getattr(scores, name), row), "unit": unit or words.currency}
    variant, offer = words.variant(row), words.offer(row)
    return {
        "device": offer.hardware.name,
        **{name: int(getattr(answer.search.plans, name)[row]) for name in _LAYOUT},
        "recompute": MODES[int(answer.search.plans.recompute[row])],
        "method": variant.method,
        "dtype": variant.dtype,
        **figures,
        "capacity_bytes": _known(float(scores.capacity[row])),
        "largest_kind": MEMORY_KINDS[int(scores.kind[row])],
        "does": bool(answer.search.verdict.good[row]),
        "misfit": words.verdict(row) or None,
        "unknown": words.unknown(row) or None,
    }


def _ends(figure: Range, row: int) -> dict[str, float | None]:
    return {"low": _known(float(figure.low[row])), "value": _known(float(figure.middle[row])),
            "high": _known(float(figure.high[row]))}  # fmt: skip


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def write_csv(answer: GoalAnswer, path: Path) -> int:
    """Every plan on a line, best first by the goal; what is unknown is empty. Returns how many.

    Raises:
        ArrieroError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_header(answer))
            writer.writerows(_lines(answer))
    except OSError as error:
        raise ArrieroError(f"cannot write {path}: {error.strerror or error}") from None
    return len(answer.search.plans)


def _header(answer: GoalAnswer) -> list[str]:
    units = {name: unit or answer.words.currency for name, unit in _FIGURES.items()}
    figures = [f"{name}_{end} ({units[name]})" for name in _FIGURES for end in ("low", "middle", "high")]
    return [
        "device",
        "method",
        "dtype",
        *_LAYOUT,
        "recompute",
        *figures,
        "capacity (B)",
        "largest_kind",
        "state",
        "pareto",
    ]


def _lines(answer: GoalAnswer) -> Iterator[list[Any]]:
    words, search = answer.words, answer.search
    order, verdict = search.order, search.verdict
    plans, scores = search.plans.take(order), search.scores.take(order)
    columns = [
        getattr(getattr(scores, name), end).tolist() for name in _FIGURES for end in ("low", "middle", "high")
    ]
    columns.append(scores.capacity.tolist())
    layout = [getattr(plans, name).tolist() for name in _LAYOUT]
    beyond = set(answer.pareto.tolist())
    states = [
        "does" if good else "misses" if bad else "unknown"
        for good, bad in zip(verdict.good, verdict.bad, strict=True)
    ]
    for place, row in enumerate(order.tolist()):
        variant = words.variants[int(plans.variant[place])]
        yield [
            words.offers[int(plans.hardware[place])].hardware.name, variant.method, variant.dtype,
            *(column[place] for column in layout), MODES[int(plans.recompute[place])],
            *("" if column[place] != column[place] else f"{column[place]:.6g}" for column in columns),
            MEMORY_KINDS[int(scores.kind[place])], states[row], int(row in beyond),
        ]  # fmt: skip
