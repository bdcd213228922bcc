"""`--goal best-model`: of the models that a budget can train, the one that a scaling law gives the lowest loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arriero.cost.hardware.table import Hardware
from arriero.cost.scaling.law import CHINCHILLA, ParametricLaw
from arriero.cost.search.columns import Scores
from arriero.cost.search.evaluate import Offer, Surroundings, evaluate
from arriero.cost.search.space import enumerate_plans
from arriero.cost.tariffs import Tariffs
from arriero.cost.workload import Workload
from arriero.errors import ArrieroError
from arriero.models.preset import get_preset, presets
from arriero.planning.goal.answer import GoalAnswer, answer_with, offers_for, tariffs_of, traced
from arriero.planning.goal.offers import choose_devices, precisions
from arriero.planning.goal.question import GoalQuestion
from arriero.planning.goal.settle import settled
from arriero.planning.goal.variants import Variant, make_space, step_sequences

LADDER = (
    "pythia-70m", "pythia-160m", "pythia-410m", "pythia-1b", "pythia-1.4b", "pythia-2.8b", "pythia-6.9b", "pythia-12b",
    "gpt-neox-20b", "llama-33b", "llama-3-70b",
)  # fmt: skip
"""Candidates where a question names none: one family as far as it goes, then the next larger published shapes."""
_PROBE_TOKENS = 1e12
_UTILISATION = 0.4
_AROUND = 2
"""Candidates below and above the size that a rough sum calls best."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Candidate:
    """A model with the tokens that the budget buys for it.

    Attributes:
        tokens: 0 where no plan of it does. loss: nats a token by the law, infinite without tokens.
    """

    name: str
    parameters: int
    tokens: float
    loss: float


@dataclass(frozen=True)
class BestModelAnswer:
    """The candidates, lowest loss first, and the best plan of the first of them (None: the budget trains none).

    Attributes:
        edge: the best is the smallest or the largest of those tried, so a better one may lie beyond.
    """

    question: GoalQuestion
    law: ParametricLaw
    candidates: tuple[Candidate, ...]
    answer: GoalAnswer | None
    edge: bool


def answer_best_model(
    question: GoalQuestion, say: Callable[[str], None], law: ParametricLaw = CHINCHILLA
) -> BestModelAnswer:
    """For each candidate the plan that trains on most tokens within the limits; then the loss that the law gives.

    Raises:
        ArrieroError: the question makes no sense, or a model or device is unknown.
    """
    question.check()
    tariffs, devices = tariffs_of(question), choose_devices(question.hardware)
    names = _candidates(question, devices, tariffs, law)
    found: dict[str, Candidate] = {}
    traces: dict[str, tuple[list[Variant], list[Offer]]] = {}
    for name in names:
        asked = _about(question, name)
        variants = traced(asked, precisions(devices, question.dtypes), say)
        offers = offers_for(asked, devices, variants, tariffs)
        traces[name] = variants, offers
        found[name] = _candidate(asked, offers, [_summary(one) for one in variants], tariffs, law)
    exact: set[str] = set()
    while (best := _ranked(found)[0]).name not in exact:
        # memory of the one that is to be chosen is traced in full; should that cost it the first place, of the next one
        exact.add(best.name)
        variants, offers = traces[best.name]
        found[best.name] = _candidate(_about(question, best.name), offers, variants, tariffs, law)
    ranked = _ranked(found)
    if not best.tokens:
        return BestModelAnswer(question, law, ranked, None, False)
    variants, offers = traces[best.name]
    asked = replace(_about(question, best.name), goal="cheapest", tokens=best.tokens)
    sizes = sorted(one.parameters for one in ranked)
    edge = len(sizes) > 1 and best.parameters in (sizes[0], sizes[-1])
    return BestModelAnswer(question, law, ranked, answer_with(asked, offers, variants, tariffs), edge)


def _candidate(
    asked: GoalQuestion, offers: list[Offer], variants: list[Variant], tariffs: Tariffs, law: ParametricLaw
) -> Candidate:
    size = variants[0].workload.parameters.total
    tokens = most_tokens(asked, offers, variants, tariffs)
    return Candidate(asked.name, size, tokens, float(law.loss(size, tokens)) if tokens else math.inf)


def _ranked(found: dict[str, Candidate]) -> tuple[Candidate, ...]:
    return tuple(sorted(found.values(), key=lambda one: (one.loss, one.parameters, one.name)))


def _summary(variant: Variant) -> Variant:
    """Without the traced moments of memory, which take long: its summary figures serve to rank candidates."""
    return replace(variant, workload=replace(variant.workload, memory={}))


def _about(question: GoalQuestion, name: str) -> GoalQuestion:
    return replace(question, name=name, config=get_preset(name).config)


def most_tokens(
    question: GoalQuestion, offers: list[Offer], variants: list[Variant], tariffs: Tariffs
) -> float:
    """The most tokens, in whole steps, that any plan trains on within budget and deadline; 0 where none does.

    Money and seconds grow in step with the tokens, so one evaluation tells all.
    """
    batch = step_sequences(question, variants[0].workload)
    plans = enumerate_plans(make_space(question, variants, offers, batch))
    if not len(plans):
        return 0.0
    around = Surroundings(tariffs.pue.quantity(), tariffs.grid.quantity())
    step = batch * variants[0].workload.context

    def search(workloads: list[Workload]) -> tuple[float, int | None]:
        scores = evaluate(plans, offers, workloads, _PROBE_TOKENS, around)
        steps = _most_steps(question, scores, math.ceil(_PROBE_TOKENS / step))
        fits = (scores.memory.high <= scores.capacity) & ~np.isnan(steps)
        if not fits.any():
            return 0.0, None
        row = int(np.where(fits, steps, -np.inf).argmax())
        return float(steps[row]), row

    most = settled(plans, [variant.workload for variant in variants], search)
    return float(math.floor(most * (1 - _ROUNDING)) * step)


def _most_steps(question: GoalQuestion, scores: Scores, probed: int) -> np.ndarray:
    """Steps that each plan can do within the limits; ``scores`` are of so many."""
    assert question.budget is not None
    steps: np.ndarray = question.budget / (scores.money.end(question.judged_by) / probed)
    if question.deadline is not None:
        steps = np.minimum(steps, question.deadline / (scores.seconds.end(question.judged_by) / probed))
    return steps


def _candidates(
    question: GoalQuestion, devices: Sequence[Hardware], tariffs: Tariffs, law: ParametricLaw
) -> list[str]:
    """The models to trace: those that were named, otherwise those around the size that a rough sum calls best."""
    for name in question.models:
        get_preset(name)
    if question.models:
        return list(dict.fromkeys(question.models))
    known = [(presets()[name].parameters, name) for name in LADDER]
    rough = [flops for device in devices if (flops := _rough_flops(question, device, tariffs))]
    if not rough:
        raise ArrieroError(
            "no device of --hardware has a known price and peak, so a budget buys nobody knows what: give --price NAME=N"
        )
    wanted = law.optimal(max(rough)).parameters
    nearest = min(range(len(known)), key=lambda k: abs(math.log(known[k][0] / wanted)))
    return [name for _, name in known[max(0, nearest - _AROUND) : nearest + _AROUND + 1]]


def _rough_flops(question: GoalQuestion, device: Hardware, tariffs: Tariffs) -> float | None:
    """FLOP that the budget (and the deadline) buys of one kind of device at a typical utilisation."""
    peak = device.peak("bf16") or device.peak("fp32")
    price = tariffs.prices.accelerator(device.name)
    own = question.prices.get(device.name) or question.prices.get("")
    hourly = own or (price.price.value if price is not None and price.price is not None else None)
    if not peak or not hourly or question.budget is None:
        return None
    hours = question.budget / hourly
    if question.deadline is not None:
        hours = min(hours, max(question.device_counts) * question.deadline / 3600)
    return hours * 3600 * peak * _UTILISATION
