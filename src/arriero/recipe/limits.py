"""Limits on what a run may take: checked against the plan's upper end before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from arriero.cost import Quantity
from arriero.cost.units import format_bytes, format_money, format_seconds
from arriero.errors import BudgetError
from arriero.recipe.plan import PlannedStage, RecipePlan


@dataclass(frozen=True)
class Limits:
    """None means no limit. Memory in bytes, money in the tariffs' currency."""

    seconds: float | None = None
    money: float | None = None
    memory: float | None = None


def _high(quantity: Quantity) -> float:
    return quantity.high if quantity.high is not None else float("inf")


def _shown(value: float, text: str) -> str:
    return "unknown" if value == float("inf") else text


def check_limits(plan: RecipePlan, limits: Limits) -> None:
    """Raise BudgetError, naming the stage that breaks a limit and what would fit, when a limit is broken."""
    if limits.seconds is not None:
        _check_sum(plan, "seconds", limits.seconds, "--max-seconds")
    if limits.money is not None:
        _check_sum(plan, "money", limits.money, "--max-money")
    if limits.memory is not None:
        _check_memory(plan, limits.memory)


def _format(name: str, value: float, plan: RecipePlan) -> str:
    if value == float("inf"):
        return "unknown"
    return format_seconds(value) if name == "seconds" else format_money(value, plan.total.money.unit)


def _check_sum(plan: RecipePlan, name: str, limit: float, option: str) -> None:
    spent, breaks = 0.0, None
    for stage in plan.ahead:
        spent += _high(getattr(stage.estimate, name))
        if breaks is None and spent > limit:
            breaks = stage
    if breaks is not None:
        before = _names_before(plan, breaks)
        fits = (
            f"stages up to '{before[-1]}' would fit (--until {before[-1]})"
            if before
            else "no stage would fit"
        )
        raise BudgetError(
            f"{option} {_format(name, limit, plan)}: the plan's upper end is {_format(name, spent, plan)}; "
            f"stage '{breaks.step.name}' (up to {_format(name, _high(getattr(breaks.estimate, name)), plan)}) breaks it; {fits}"
        )


def _names_before(plan: RecipePlan, stage: PlannedStage) -> list[str]:
    names = [planned.step.name for planned in plan.ahead]
    return names[: names.index(stage.step.name)]


def _check_memory(plan: RecipePlan, limit: float) -> None:
    over = [stage for stage in plan.ahead if _high(stage.estimate.peak_memory) > limit]
    if over:
        worst = max(over, key=lambda stage: _high(stage.estimate.peak_memory))
        high = _high(worst.estimate.peak_memory)
        advice = (
            "a smaller batch or model would need less"
            if "model" in worst.spec.type
            else "smaller inputs would need less"
        )
        raise BudgetError(
            f"--max-memory {format_bytes(limit)}: stage '{worst.step.name}' may need up to "
            f"{_shown(high, format_bytes(high))}; {advice}; --max-memory {_shown(high, format_bytes(high))} would fit"
        )
