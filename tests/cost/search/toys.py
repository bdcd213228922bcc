"""Small searches whose every figure is drawn, and a search in plain Python that shares no code with the real one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arriero.cost.search.columns import Plans, Range, Scores

UNKNOWN = float("nan")


def draw(seed: int, plans: int, unknown: float = 0.1, grid: int = 6) -> tuple[Plans, Scores]:
    """Random plans with few different figures, so that ties are common, and some unknown ones."""
    rng = np.random.default_rng(seed)

    def figures() -> np.ndarray:
        values = rng.integers(1, grid + 1, plans).astype(float)
        values[rng.random(plans) < unknown] = UNKNOWN
        return values

    def band() -> Range:
        middle = figures()
        return Range(middle * 0.5, middle, middle * (1 + rng.integers(0, 3, plans) / 2))

    def count(most: int) -> np.ndarray:
        return rng.integers(1, most + 1, plans)

    columns = {name: count(3) for name in Plans.__dataclass_fields__}
    scores = Scores(
        seconds=band(), money=band(), energy=band(), co2=band(), memory=band(), capacity=figures() + 1, kind=count(4)
    )  # fmt: skip
    return Plans(**columns), scores


def rows(plans: Plans, scores: Scores) -> list[dict[str, Any]]:
    """One dictionary of plain numbers for each plan; None is unknown."""

    def plain(value: Any) -> float | None:
        return None if math.isnan(float(value)) else float(value)

    found = []
    for i in range(len(plans)):
        row: dict[str, Any] = {name: int(getattr(plans, name)[i]) for name in Plans.__dataclass_fields__}
        for name in ("seconds", "money", "energy", "memory"):
            column = getattr(scores, name)
            row[name] = plain(column.middle[i])
            row[f"{name}_high"] = plain(column.high[i])
        row["capacity"] = plain(scores.capacity[i])
        found.append(row)
    return found


def does(row: dict[str, Any], deadline: float | None, budget: float | None) -> bool:
    """Whether a plan is known to keep to everything."""
    if row["memory_high"] is None or row["capacity"] is None or row["memory_high"] > row["capacity"]:
        return False
    if deadline is not None and (row["seconds_high"] is None or row["seconds_high"] > deadline):
        return False
    return budget is None or (row["money_high"] is not None and row["money_high"] <= budget)


def slow_best(
    table: list[dict[str, Any]], order: list[str], deadline: float | None, budget: float | None
) -> int | None:  # fmt: skip
    """The best row by a plain loop; equal rows: the first."""
    found: int | None = None
    mark: tuple[float, ...] = ()
    for i, row in enumerate(table):
        if row[order[0]] is None or not does(row, deadline, budget):
            continue
        key = tuple(math.inf if row[name] is None else row[name] for name in order)
        key += (row["devices"], row["tensor"] * row["context"] * row["pipeline"], row["zero"])
        if found is None or key < mark:
            found, mark = i, key
    return found


def slow_pareto(table: list[dict[str, Any]]) -> set[int]:
    """Rows that fit and that no other row beats, by comparing all pairs; of equal rows the first."""
    names = ("money", "seconds", "energy")
    able = [
        i for i, row in enumerate(table) if does(row, None, None) and all(row[n] is not None for n in names)
    ]
    kept = set()
    for i in able:
        mine = [table[i][n] for n in names]
        beaten = False
        for j in able:
            other = [table[j][n] for n in names]
            if all(b <= a for a, b in zip(mine, other, strict=True)) and (other != mine or j < i):
                beaten = True
        if not beaten:
            kept.add(i)
    return kept
