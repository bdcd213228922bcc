"""The pictures of `arriero plan --goal --pictures`."""

from __future__ import annotations

import math

import numpy as np

from arriero.cost.memory import KINDS, device_memory
from arriero.cost.search.columns import MODES
from arriero.cost.search.pareto import pareto
from arriero.cost.time import step_terms
from arriero.planning.goal.answer import GoalAnswer
from arriero.planning.goal.best_model import BestModelAnswer
from arriero.planning.goal.words import MEMORY_KINDS
from arriero.planning.pictures.loss_money import Choice, LossPoint, OverTraining, loss_money_picture
from arriero.planning.pictures.memory_bar import RankMemory, memory_picture
from arriero.planning.pictures.pareto import PlanPoint, pareto_picture
from arriero.planning.pictures.picture import Picture
from arriero.planning.pictures.waterfall import Term, waterfall_picture

_CELLS = 80
"""Plans that fall into one of so many by so many cells of the picture are drawn as one."""
_POINTS = 24


def goal_pictures(answer: GoalAnswer) -> list[Picture]:
    """All plans by time and money; memory and time of the best one, or of the one that comes nearest."""
    found = [_plans(answer)] if answer.question.tokens is not None else []
    row = answer.best if answer.best is not None else answer.closest
    return [*found, _memory(answer, row), _time(answer, row)] if row is not None else found


def best_model_pictures(best: BestModelAnswer) -> list[Picture]:
    """Loss and money of the candidates, and the pictures of the best one's plan."""
    return [_loss(best), *(goal_pictures(best.answer) if best.answer is not None else [])]


def _plans(answer: GoalAnswer) -> Picture:
    words, search = answer.words, answer.search
    seconds, money = search.scores.seconds.middle, search.scores.money.middle
    binding = _bindings(answer)
    counts = {
        str(name): int(count) for name, count in zip(*np.unique(binding, return_counts=True), strict=True)
    }
    good = np.flatnonzero(search.verdict.good & np.isfinite(seconds) & np.isfinite(money))
    front = {int(good[i]) for i in pareto(np.stack([seconds[good], money[good]], axis=1))}
    rows = sorted(
        {*_chosen(seconds, money, binding), *front, *([answer.best] if answer.best is not None else [])}
    )
    points = [
        PlanPoint(
            _name(answer, row), float(seconds[row]), float(money[row]), str(binding[row]),
            row in front, row == answer.best,
        )
        for row in rows
    ]  # fmt: skip
    unknown = int((~(np.isfinite(seconds) & np.isfinite(money))).sum())
    return pareto_picture(
        points, currency=words.currency, deadline=answer.question.deadline, budget=answer.question.budget,
        counts=counts, unknown=unknown, title=f"Plans for {answer.question.name}",
    )  # fmt: skip


def _name(answer: GoalAnswer, row: int) -> str:
    """ "8x H100-SXM5-80GB tp 2 mb 16": devices, how each copy of the model is cut, and its micro-batch."""
    cuts = {"tp": "tensor", "cp": "context", "pp": "pipeline", "mb": "micro_batch"}
    sizes = {short: int(getattr(answer.search.plans, column)[row]) for short, column in cuts.items()}
    shown = [f"{short} {size}" for short, size in sizes.items() if size > 1 or short == "mb"]
    mode = MODES[int(answer.search.plans.recompute[row])]
    return " ".join([answer.words.devices(row), *shown, *([f"{mode} rec."] if mode != "none" else [])])


def _bindings(answer: GoalAnswer) -> np.ndarray:
    """What each plan fails at, [plans] of str: memory with its kind, the deadline, the budget; empty for none."""
    verdict, kinds = answer.search.verdict, np.array([f"memory: {kind}" for kind in MEMORY_KINDS])
    failed = [verdict.shortage > 0, verdict.late > 0, verdict.excess > 0, verdict.unknown]
    names = [kinds[answer.search.scores.kind], "deadline", "budget", "unknown"]
    return np.select(failed, names, "")


def _chosen(seconds: np.ndarray, money: np.ndarray, binding: np.ndarray) -> list[int]:
    """One row for all that fall on one spot and fail at the same."""
    rows = np.flatnonzero(np.isfinite(seconds) & np.isfinite(money) & (seconds > 0) & (money > 0))
    if not len(rows):
        return []
    keys = [np.unique(binding[rows], return_inverse=True)[1]]
    for values in (np.log(seconds[rows]), np.log(money[rows])):
        span = float(np.ptp(values)) or 1.0
        keys.append(((values - values.min()) / span * _CELLS).round().astype(np.int64))
    _, first = np.unique(np.stack(keys, axis=1), axis=0, return_index=True)
    return [int(row) for row in rows[first]]


def _memory(answer: GoalAnswer, row: int) -> Picture:
    plan, offer = answer.search.plans.take(np.array([row])), answer.words.offer(row)
    found = device_memory(
        answer.words.variant(row).workload, plan.cut, micro_batch=plan.micro_batch, accumulation=plan.accumulation,
        recompute=np.array(MODES)[plan.recompute],
    ).at(0)  # fmt: skip
    _, middle, high = offer.runtime(int(plan.devices[0]))
    parts = {kind: float(getattr(found, kind)) for kind in KINDS}
    parts["runtime"] += middle
    rank = RankMemory("fullest device", parts, float(found.margin[1]) + high - middle)
    capacity = float(answer.search.scores.capacity[row])
    return memory_picture([rank], capacity, title=f"Memory: {answer.words.devices(row)}")


def _time(answer: GoalAnswer, row: int) -> Picture:
    plan, offer, workload = answer.search.plans.take(np.array([row])), answer.words.offer(row), answer.words.variant(row).workload  # fmt: skip
    terms = step_terms(
        workload, plan.cut, micro_batch=plan.micro_batch, accumulation=plan.accumulation,
        recompute=np.array(MODES)[plan.recompute], coefficients=offer.coefficients[workload.dtype],
        devices_per_node=offer.node,
    )  # fmt: skip
    named = {name: float(np.ravel(value)[0]) for name, value in terms.named().items()}
    whole, (low, high) = sum(named.values()), offer.band[workload.dtype]
    return waterfall_picture(
        [Term(name, seconds) for name, seconds in named.items()],
        total=Term("a step", whole, whole * low, whole * high) if math.isfinite(whole) else None,
        title=f"A step: {answer.words.devices(row)}",
    )  # fmt: skip


def _loss(best: BestModelAnswer) -> Picture:
    """The candidates stand at the budget; the curve is at the price of a FLOP that the best of them has there."""
    law, budget = best.law, best.question.budget
    able = [one for one in best.candidates if one.tokens]
    if not able or budget is None:
        return loss_money_picture([], title="Loss and money")
    price = budget / law.allocation(able[0].parameters, able[0].tokens).flops
    span = np.geomspace(budget / 30, budget * 3, _POINTS)
    optimal = [LossPoint(float(money), law.optimal(float(money) / price).loss or math.nan) for money in span]
    tokens = able[0].tokens * np.geomspace(0.3, 3.0, _POINTS)
    line = [LossPoint(law.allocation(able[0].parameters, float(d)).flops * price, float(law.loss(able[0].parameters, d))) for d in tokens]  # fmt: skip
    choices = [
        Choice(one.parameters, one.tokens, LossPoint(budget, one.loss), place == 0)
        for place, one in enumerate(able)
    ]
    currency = best.answer.words.currency if best.answer is not None else "USD"
    return loss_money_picture(
        optimal, choices, [OverTraining(f"{able[0].name}, more tokens", line)], currency=currency, budget=budget,
        title=f"Loss and money, by {law.name}",
    )  # fmt: skip
