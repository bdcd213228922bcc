"""`arriero plan --goal`: the best plan for a goal among all that can be enumerated, and why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from arriero.cost.hardware.table import Hardware
from arriero.cost.search.choose import Search
from arriero.cost.search.columns import Plans
from arriero.cost.search.evaluate import Offer, Surroundings, evaluate
from arriero.cost.search.limits import Limits
from arriero.cost.search.space import enumerate_plans
from arriero.cost.tariffs import Tariffs
from arriero.cost.workload import Dtype, Workload
from arriero.errors import ArrieroError
from arriero.planning.goal.doubts import Doubt, doubts, left_out, next_action
from arriero.planning.goal.offers import choose_devices, make_offers, precisions
from arriero.planning.goal.others import Other, others, unknown_devices
from arriero.planning.goal.question import GoalQuestion
from arriero.planning.goal.settle import settled
from arriero.planning.goal.variants import Variant, context_of, make_space, make_variant, step_sequences
from arriero.planning.goal.words import Wording

Say = Callable[[str], None]
_PROBE_TOKENS = 1e9
"""Of a run whose length does not matter: what fits."""


@dataclass(frozen=True)
class GoalAnswer:
    """The answer with everything that it was chosen from.

    Attributes:
        question: with what it left open filled in. words: the search over all plans, and how to speak of its rows.
        batch: sequences of one step. best: row of the best plan; None: no plan does. closest: row of the plan that
            comes nearest where none does.
        pareto: rows of the Pareto set over money, time and energy, of all plans that fit in memory; cheapest first.
        grid: the carbon intensity that CO2 rests on, in words.
        others: plans beside the best. unknown: devices that cannot be judged.
    """

    question: GoalQuestion
    words: Wording
    batch: int
    grid: str
    best: int | None
    closest: int | None
    pareto: np.ndarray
    others: list[Other]
    unknown: list[Other]
    doubts: list[Doubt]
    action: str
    left_out: list[str]

    @property
    def search(self) -> Search:
        return self.words.search

    @property
    def tokens(self) -> float:
        return _tokens(self.question)

    @property
    def flops(self) -> float:
        """Arithmetic of the whole run, forward and backward, without recomputation."""
        workload = self.words.variants[0].workload
        return (workload.forward.flops + workload.backward.flops) * self.tokens / workload.context


def answer(question: GoalQuestion, say: Say = lambda line: None) -> GoalAnswer:
    """Search all plans of the question's model.

    Args:
        say: hears what is going on, where it takes seconds.

    Raises:
        ArrieroError: the question makes no sense, or names what is not known.
    """
    question.check()
    tariffs = tariffs_of(question)
    devices = choose_devices(question.hardware)
    variants = traced(question, precisions(devices, question.dtypes), say)
    return answer_with(question, offers_for(question, devices, variants, tariffs), variants, tariffs)


def traced(question: GoalQuestion, dtypes: list[Dtype], say: Say) -> list[Variant]:
    """The workloads of the question's model: each method in each precision."""
    assert question.config is not None
    context = context_of(question.config, question.context)
    found = []
    for method in question.methods:
        for dtype in dtypes:
            say(f"tracing {question.name}: {method}, {dtype}, {context:,} tokens")
            found.append(
                make_variant(question.config, context, method, dtype, question.optimizer, question.name)
            )
    return found


def offers_for(
    question: GoalQuestion, devices: list[Hardware], variants: list[Variant], tariffs: Tariffs
) -> list[Offer]:
    """The devices with their coefficients for the question's model."""
    workloads = {variant.dtype: variant.workload for variant in reversed(variants)}
    return make_offers(devices, workloads, tariffs, question.prices, question.node)


def answer_with(
    question: GoalQuestion, offers: list[Offer], variants: list[Variant], tariffs: Tariffs
) -> GoalAnswer:
    """The search once everything is known of devices and model."""
    batch = step_sequences(question, variants[0].workload)
    plans = enumerate_plans(make_space(question, variants, offers, batch))
    if not len(plans):
        raise ArrieroError(
            f"no way to deal {batch} sequences a step over {_counts(question)} devices: give --batch-tokens or --max-devices"
        )
    search = _searched(question, plans, offers, variants, tariffs)
    words = Wording(search, offers, variants, tariffs.currency, question.deadline_text)
    return _told(question, words, batch, _grid(tariffs))


def _grid(tariffs: Tariffs) -> str:
    return f"grid {tariffs.grid.value:g} g/kWh: {tariffs.grid.source} ({tariffs.grid.as_of}), PUE {tariffs.pue.value:g}; assumed"


def _told(question: GoalQuestion, words: Wording, batch: int, grid: str) -> GoalAnswer:
    search = words.search
    best = search.best()
    closest = search.nearest_miss() if best is None else None
    found = doubts(words, best) if best is not None else []
    return GoalAnswer(
        question, words, batch, grid, best, closest, search.pareto(), others(words, best, closest), unknown_devices(words), found,
        next_action(words, best, found) if best is not None else _way_out(words, closest), left_out(words, best),
    )  # fmt: skip


def _way_out(words: Wording, closest: int | None) -> str:
    """What would have to change for any plan to do."""
    if closest is None:
        return "give what is unknown: --price NAME=N for a price"
    search = words.search
    middle = Search(
        search.plans, search.scores, replace(search.limits, judged_by="middle"), search.objective
    ).best()
    if middle is not None:
        return (
            f"in the middle of the bands {words.devices(middle)} would do (--judge-by middle); at their upper end "
            f"the nearest plan {words.verdict(closest)}"
        )
    misfit = search.verdict.misfit(closest)
    assert misfit is not None
    ways = {
        "memory": "allow more devices (--max-devices), adapters (--method lora) or a shorter --context",
        "deadline": "allow more time, more devices (--max-devices) or other --hardware",
        "budget": "allow a larger --budget, fewer --tokens or other --hardware",
    }
    return f"the nearest plan {words.verdict(closest)}: {ways[misfit.limit]}"


def _searched(
    question: GoalQuestion, plans: Plans, offers: list[Offer], variants: list[Variant], tariffs: Tariffs
) -> Search:
    """The search in which the best plan (or, where none does, the nearest miss) rests on the trace of its own group."""
    around = Surroundings(tariffs.pue.quantity(), tariffs.grid.quantity())
    limits = Limits(question.deadline, question.budget, question.judged_by)

    def search(workloads: list[Workload]) -> tuple[Search, int | None]:
        scores = evaluate(plans, offers, workloads, _tokens(question), around)
        found = Search(plans, scores, limits, question.objective)
        best = found.best()
        return found, found.nearest_miss() if best is None else best

    return settled(plans, [variant.workload for variant in variants], search)


def tariffs_of(question: GoalQuestion) -> Tariffs:
    """The tables with the question's overrides; CO2 is always worked out here, and its basis said."""
    return Tariffs.load({**question.tariffs, "co2": True})


def _tokens(question: GoalQuestion) -> float:
    return _PROBE_TOKENS if question.tokens is None else question.tokens


def _counts(question: GoalQuestion) -> str:
    counts = question.device_counts
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
