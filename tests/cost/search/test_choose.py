"""The chosen plan and the Pareto set against plain loops over all plans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cost.search.toys import does, draw, rows, slow_best, slow_pareto

from arriero.cost.search.choose import Search
from arriero.cost.search.columns import Plans, Scores
from arriero.cost.search.limits import Limits, judge
from arriero.cost.search.pareto import pareto

SEEDS = st.integers(0, 2**31)
LIMIT = st.none() | st.floats(0.5, 8.0)
ORDERS = {
    "cheapest": ["money", "seconds", "energy"],
    "fastest": ["seconds", "money", "energy"],
    "greenest": ["energy", "money", "seconds"],
}


@given(seed=SEEDS, deadline=LIMIT, budget=LIMIT, objective=st.sampled_from(sorted(ORDERS)))
@settings(max_examples=60, deadline=None)
def test_best_equals_a_plain_loop_over_500_plans(seed, deadline, budget, objective):
    plans, scores = draw(seed, 500)
    found = Search(plans, scores, Limits(deadline, budget), objective)
    table = rows(plans, scores)
    assert found.best() == slow_best(table, ORDERS[objective], deadline, budget)
    among = plans.hardware == 2
    some = [row if row["hardware"] == 2 else {**row, "memory_high": None} for row in table]
    assert found.best(among) == slow_best(some, ORDERS[objective], deadline, budget)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grid", [3, 12, 10_000])
def test_pareto_set_equals_a_comparison_of_all_pairs(seed, grid):
    plans, scores = draw(seed, 500, grid=grid)
    found = Search(plans, scores, Limits(), "cheapest").pareto()
    assert set(found.tolist()) == slow_pareto(rows(plans, scores))
    assert len(set(found.tolist())) == len(found)


@given(seed=SEEDS, deadline=LIMIT, budget=LIMIT)
@settings(max_examples=40, deadline=None)
def test_every_plan_is_good_or_bad_or_unknown(seed, deadline, budget):
    plans, scores = draw(seed, 200, unknown=0.3)
    verdict = judge(scores, Limits(deadline, budget))
    assert (verdict.good.astype(int) + verdict.bad + verdict.unknown == 1).all()
    assert verdict.good.tolist() == [does(row, deadline, budget) for row in rows(plans, scores)]
    for plan in range(len(plans)):
        assert (verdict.misfit(plan) is not None) == verdict.bad[plan]


def test_a_plan_without_a_price_is_unknown_not_dropped_and_not_chosen():
    plans, scores = draw(3, 50, unknown=0.0)
    scores.money.middle[:] = scores.money.high[:] = np.nan
    scores.memory.high[:] = 0
    by_price = Search(plans, scores, Limits(), "cheapest")
    assert by_price.best() is None
    assert by_price.unknown.all()
    # without a budget the price is not needed to say which is fastest
    by_time = Search(plans, scores, Limits(), "fastest")
    order = np.lexsort([plans.zero, plans.splits, plans.devices, scores.energy.middle, scores.seconds.middle])
    assert by_time.best() == int(order[0]) and not by_time.unknown.any()
    within = Search(plans, scores, Limits(budget=5.0), "fastest")
    assert within.best() is None and within.unknown.all()


@given(seed=SEEDS, objective=st.sampled_from(sorted(ORDERS)), shorter=LIMIT, longer=st.floats(0, 5))
@settings(max_examples=60, deadline=None)
def test_wider_limits_never_make_the_answer_worse(seed, objective, shorter, longer):
    plans, scores = draw(seed, 300)
    figure = getattr(scores, ORDERS[objective][0]).middle

    def chosen(deadline: float | None, budget: float | None, memory: float = 0.0) -> float:
        more = Scores(**{**vars(scores), "capacity": scores.capacity + memory})
        row = Search(plans, more, Limits(deadline, budget), objective).best()
        return np.inf if row is None else float(figure[row])

    base = 2.0 if shorter is None else shorter
    tight = chosen(base, base)
    assert chosen(base + longer, base) <= tight
    assert chosen(base, base + longer) <= tight
    assert chosen(base, base, longer) <= tight
    assert chosen(None, None) <= tight


@given(seed=SEEDS, deadline=LIMIT, budget=LIMIT)
@settings(max_examples=40, deadline=None)
def test_the_nearest_miss_is_the_smallest_one_of_the_mildest_kind(seed, deadline, budget):
    plans, scores = draw(seed, 120)
    search = Search(plans, scores, Limits(deadline, budget), "cheapest")
    row = search.nearest_miss()
    misses = [search.verdict.misfit(i) for i in range(len(plans))]
    found = [m for m in misses if m is not None]
    if row is None:
        assert not found
        return
    hardness = {"budget": 0, "deadline": 1, "memory": 2}
    assert (hardness[misses[row].limit], misses[row].amount) == min(
        (hardness[m.limit], m.amount) for m in found
    )


def test_the_middle_of_the_bands_can_decide():
    _, scores = draw(1, 20, unknown=0.0)
    upper = judge(scores, Limits(deadline=4.0))
    middle = judge(scores, Limits(deadline=4.0, judged_by="middle"))
    assert (upper.late >= middle.late).all() and (upper.late > middle.late).any()


def test_ties_go_to_fewer_devices_then_to_the_earlier_row():
    plans, scores = draw(0, 6, unknown=0.0)
    for name in ("money", "seconds", "energy", "memory"):
        for column in vars(getattr(scores, name)).values():
            column[:] = 1.0
    plans.devices[:] = [4, 2, 2, 2, 2, 8]
    plans.tensor[:] = [1, 2, 1, 1, 1, 1]
    plans.context[:] = plans.pipeline[:] = 1
    plans.zero[:] = [0, 0, 3, 0, 0, 0]
    assert Search(plans, scores, Limits(), "cheapest").best() == 3


@given(seed=SEEDS, objective=st.sampled_from(sorted(ORDERS)))
@settings(max_examples=40, deadline=None)
def test_rounding_does_not_decide(seed, objective):
    """With noise in the last digits of every figure the same plan is best, whichever equals it has."""
    plans, scores = draw(seed, 500)
    best = Search(plans, scores, Limits(), objective).best()
    rng = np.random.default_rng(seed)
    for name in ("money", "seconds", "energy"):
        figure = getattr(scores, name)
        figure.middle[:] = figure.middle * (1 + 1e-13 * rng.standard_normal(500))
    assert Search(plans, scores, Limits(), objective).best() == best


@given(seed=SEEDS, objective=st.sampled_from(sorted(ORDERS)))
@settings(max_examples=40, deadline=None)
def test_a_small_change_of_figures_leads_to_a_plan_as_good(seed, objective):
    plans, scores = draw(seed, 300, grid=10_000)
    search = Search(plans, scores, Limits(), objective)
    best = search.best()
    if best is None:
        return
    figure = getattr(scores, ORDERS[objective][0])
    before = figure.middle.copy()
    tied = {best, *search.ties(best).tolist()}
    figure.middle[:] = before * (1 + 1e-3 * np.random.default_rng(seed).uniform(-1, 1, 300))
    again = Search(plans, scores, Limits(), objective).best()
    assert again is not None and again in tied
    assert before[again] <= before[best] * (1 + 1e-3) / (1 - 1e-3)


@given(seed=SEEDS, deadline=LIMIT, objective=st.sampled_from(sorted(ORDERS)))
@settings(max_examples=40, deadline=None)
def test_ties_equal_a_comparison_one_by_one(seed, deadline, objective):
    plans, scores = draw(seed, 200)
    search = Search(plans, scores, Limits(deadline), objective)
    best = search.best()
    if best is None:
        return
    figure, table = getattr(scores, ORDERS[objective][0]), rows(plans, scores)

    def holds(plan, other):
        return figure.low[plan] <= figure.middle[other] <= figure.high[plan]

    alike = [
        i
        for i in range(200)
        if i != best and does(table[i], deadline, None) and holds(i, best) and holds(best, i)
    ]
    assert search.ties(best).tolist() == alike
    key = lambda i: (table[i]["devices"], table[i]["tensor"] * table[i]["context"] * table[i]["pipeline"])  # noqa: E731
    simplest = search.simplest(np.array([best, *alike]))
    assert key(simplest) == min(map(key, [best, *alike]))


def test_pareto_of_nothing_and_of_one():
    assert pareto(np.empty((0, 3))).tolist() == []
    assert pareto(np.array([[1.0, 2.0, 3.0]])).tolist() == [0]
    assert pareto(np.array([[1.0, np.nan, 3.0]])).tolist() == []


def test_rows_can_be_picked_and_joined():
    plans, scores = draw(5, 30)
    parts = [plans.take(slice(0, 10)), plans.take(np.arange(10, 30))]
    assert (Plans.joined(parts).devices == plans.devices).all()
    halves = [scores.take(np.arange(30) < 7), scores.take(slice(7, None))]
    again = Scores.joined(halves)
    np.testing.assert_array_equal(again.money.high, scores.money.high)
    np.testing.assert_array_equal(again.capacity, scores.capacity)
