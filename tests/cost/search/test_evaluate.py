"""Scores of plans: against one scalar sum for each plan, and what must never happen when limits move."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.cost.cut import Cut
from arriero.cost.hardware.table import Hardware
from arriero.cost.memory import KINDS, device_memory
from arriero.cost.quantity import Quantity
from arriero.cost.search.choose import Objective, Search
from arriero.cost.search.columns import MODES, Plans, Scores
from arriero.cost.search.evaluate import Offer, Surroundings, evaluate
from arriero.cost.search.limits import Limits
from arriero.cost.search.space import DeviceType, Space, enumerate_plans
from arriero.cost.time import prior, step_terms
from arriero.cost.workload import Dimensions, Parameters, Work, Workload

GIB = 2**30
SIZES = Dimensions(d_model=512, n_layers=8, n_heads=8, n_kv_heads=4, head_dim=64, d_ff=1536, vocab_size=32000)
TOKENS = 3e9
AROUND = Surroundings(
    Quantity(value=1.1, low=1.0, high=1.6, unit="1", basis="declared"),
    Quantity.band(400.0, 0.25, "g/kWh", "declared"),
)
FIGURES: dict[Objective, str] = {"cheapest": "money", "fastest": "seconds", "greenest": "energy"}


def workload(dtype: str = "bf16", context: int = 1024) -> Workload:
    block, rest = 12 * 512 * 512, 32000 * 512
    total = 8 * block + rest
    forward = Work(
        products=2.0 * block * context, attention=2.0 * context**2 * 512, elementwise=60.0 * 512 * context
    )
    saved = 40.0 * 512 * context * (1 if dtype == "bf16" else 2)
    return Workload(
        "toy", context, context, SIZES, Parameters(block, rest, 0, total, total, 4.0 * total), dtype,
        forward, Work(head=2.0 * rest * context, elementwise=8.0 * 32000 * context),
        forward * 2.2, Work(head=4.0 * rest * context, elementwise=12.0 * 32000 * context),
        recomputed_block={"none": Work(), "selective": forward * 0.4, "full": forward},
        saved_block={"none": saved, "selective": saved * 0.4, "full": 2.0 * 512 * context},
        saved_rest=4.0 * 512 * context, head_peak=0.3 * GIB, work_peak=30.0 * 512 * context, kv_token=8 * 2 * 256 * 2.0,
    )  # fmt: skip


def hardware(
    name: str, gib: float | None, bf16: float | None = 100.0, network: float | None = 10.0
) -> Hardware:
    figures = {
        "memory_gib": None if gib is None else gib * GIB, "fp32_tflops": 20e12, "bandwidth_gb_s": 1e12, "intra_gb_s": 1e11,
        "bf16_tflops": None if bf16 is None else bf16 * 1e12, "inter_gb_s": None if network is None else network * 1e9,
    }  # fmt: skip
    return Hardware(name, figures={key: value for key, value in figures.items() if value is not None})


def offer(device: Hardware, price: float | None = 2.0, watts: float | None = 300.0, node: int = 4) -> Offer:
    dtypes = [dtype for dtype in ("bf16", "fp32") if device.peak(dtype)]
    return Offer(
        device, node,
        Quantity.band(price, 0.4, "USD/h", "declared") if price else Quantity.unknown("USD/h", "no price"),
        Quantity.band(watts, 0.2, "W", "modelled") if watts else Quantity.unknown("W", "no power"),
        {dtype: prior(device, dtype) for dtype in dtypes}, dict.fromkeys(dtypes, (1 / 1.35, 1.35)),
        runtime=lambda count: (1e8, 2e8, 3e8 * min(count, 2)), effective=lambda count: 1 - 1e-4 * count,
    )  # fmt: skip


WORKLOADS = [workload("bf16"), workload("fp32")]
OFFERS = [
    offer(hardware("small", 3.0), 0.5), offer(hardware("large", 12.0, bf16=300.0), 3.0),
    offer(hardware("unpriced", 24.0), None), offer(hardware("old", 8.0, bf16=None), 0.3, None),
]  # fmt: skip


def space(offers: list[Offer], batch: int = 32, counts: tuple[int, ...] = (1, 2, 4, 8)) -> Space:
    types = tuple(
        DeviceType(one.node, tuple(i for i, w in enumerate(WORKLOADS) if w.dtype in one.coefficients))
        for one in offers
    )
    return Space(SIZES, 1024, batch, types, counts, micro_batches=(1, 4, 16), runnable=False)


def searched(offers: list[Offer], limits: Limits, objective: Objective = "cheapest") -> Search:
    plans = enumerate_plans(space(offers))
    return Search(plans, evaluate(plans, offers, WORKLOADS, TOKENS, AROUND), limits, objective)


def one_by_one(plans: Plans, offers: list[Offer], i: int) -> dict[str, float]:
    """One plan in plain numbers, by scalar calls of the memory and time models and this file's own sums."""
    row = {name: int(getattr(plans, name)[i]) for name in Plans.__dataclass_fields__}
    device, work = offers[row["hardware"]], WORKLOADS[row["variant"]]
    cut = Cut(row["data"], row["tensor"], row["context"], row["pipeline"], row["tensor"] > 1, row["zero"])
    mode = MODES[row["recompute"]]
    memory = device_memory(
        work, cut, micro_batch=row["micro_batch"], accumulation=row["accumulation"], recompute=mode
    )
    step = step_terms(
        work, cut, micro_batch=row["micro_batch"], accumulation=row["accumulation"], recompute=mode,
        coefficients=device.coefficients[work.dtype], devices_per_node=device.node,
    )  # fmt: skip
    steps = math.ceil(TOKENS / (row["data"] * row["micro_batch"] * row["accumulation"] * 1024))
    seconds = float(np.sum(step.total)) * steps / (1 - 1e-4 * row["devices"])
    price = device.price.value if device.price.value is not None else math.nan
    watts = device.watts.value if device.watts.value is not None else math.nan
    kinds = [float(getattr(memory, kind)) for kind in KINDS if kind != "runtime"]
    return {
        "seconds": seconds, "seconds_high": seconds * 1.35, "seconds_low": seconds / 1.35,
        "money": seconds / 3600 * row["devices"] * price,
        "money_high": seconds * 1.35 / 3600 * row["devices"] * price * 1.4,
        "energy": seconds * row["devices"] * watts,
        "co2": seconds * row["devices"] * watts / 3.6e6 * 1.1 * 400.0,
        "memory_high": float(memory.high) + 3e8 * min(row["devices"], 2),
        "capacity": device.hardware.memory_bytes or math.nan,
        "kind": kinds.index(max(kinds)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def toy() -> tuple[Plans, Scores, list[dict[str, float]]]:
    """Every seventh plan of all: some 500, of all devices, layouts and precisions."""
    everything = enumerate_plans(space(OFFERS))
    plans = everything.take(np.arange(0, len(everything), max(1, len(everything) // 500)))
    scores = evaluate(plans, OFFERS, WORKLOADS, TOKENS, AROUND)
    return plans, scores, [one_by_one(plans, OFFERS, i) for i in range(len(plans))]


def test_columns_equal_scalar_sums(toy):
    plans, scores, rows = toy
    assert 450 < len(plans) < 1100 and len(set(plans.hardware.tolist())) == 4 and plans.pipeline.max() > 1
    columns = {
        "seconds": scores.seconds.middle, "seconds_low": scores.seconds.low, "seconds_high": scores.seconds.high,
        "money": scores.money.middle, "money_high": scores.money.high, "energy": scores.energy.middle,
        "co2": scores.co2.middle, "memory_high": scores.memory.high, "capacity": scores.capacity, "kind": scores.kind,
    }  # fmt: skip
    for name, column in columns.items():
        np.testing.assert_allclose(column, [row[name] for row in rows], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("objective", ["cheapest", "fastest", "greenest"])
@pytest.mark.parametrize(
    ("deadline", "budget"), [(None, None), (40000.0, None), (None, 60.0), (40000.0, 60.0)]
)
def test_search_equals_brute_force(toy, objective, deadline, budget):
    plans, scores, rows = toy
    search = Search(plans, scores, Limits(deadline, budget), objective)
    best, figure = math.inf, FIGURES[objective]
    for row in rows:
        does = row["memory_high"] <= row["capacity"]
        does = does and (deadline is None or row["seconds_high"] <= deadline)
        does = does and (budget is None or row["money_high"] <= budget)
        if does and row[figure] < best:
            best = row[figure]
    found = search.best()
    assert (found is None) == math.isinf(best)
    if found is not None:
        assert getattr(scores, figure).middle[found] == pytest.approx(best, rel=1e-12)
        assert bool(search.verdict.good[found])


def test_pareto_set_equals_brute_force(toy):
    plans, scores, rows = toy
    found = set(Search(plans, scores, Limits(), "cheapest").pareto().tolist())
    names = ("money", "seconds", "energy")
    able = [
        i
        for i, r in enumerate(rows)
        if r["memory_high"] <= r["capacity"] and not any(math.isnan(r[n]) for n in names)
    ]
    for i in able:
        # beaten by a margin that rounding cannot make
        beaten = any(all(rows[j][n] < rows[i][n] * (1 - 1e-9) for n in names) for j in able)
        assert not (beaten and i in found)
        if i not in found:
            assert any(all(rows[j][n] <= rows[i][n] * (1 + 1e-9) for n in names) for j in found)


@given(factor=st.floats(1.0, 20.0), objective=st.sampled_from(sorted(FIGURES)), deadline=st.floats(5e3, 2e5))
@settings(max_examples=8, deadline=None)
def test_more_memory_never_makes_the_best_plan_worse(factor, objective, deadline):
    def best(scale: float) -> float:
        offers = [
            replace(one, hardware=replace(one.hardware, figures={
                **one.hardware.figures, "memory_gib": one.hardware.figures["memory_gib"] * scale
            })) for one in OFFERS
        ]  # fmt: skip
        search = searched(offers, Limits(deadline), objective)
        row = search.best()
        return math.inf if row is None else float(getattr(search.scores, FIGURES[objective]).middle[row])

    assert best(factor) <= best(1.0)


def test_a_longer_deadline_never_costs_more_and_a_larger_budget_is_never_slower():
    search = searched(OFFERS, Limits())
    money, seconds = [], []
    for limit in np.geomspace(1e3, 1e6, 40):
        cheap = Search(search.plans, search.scores, Limits(deadline=float(limit)), "cheapest")
        row = cheap.best()
        money.append(math.inf if row is None else float(search.scores.money.middle[row]))
    for limit in np.geomspace(0.5, 500, 40):
        fast = Search(search.plans, search.scores, Limits(budget=float(limit)), "fastest")
        row = fast.best()
        seconds.append(math.inf if row is None else float(search.scores.seconds.middle[row]))
    for series in (money, seconds):
        assert all(later <= earlier for earlier, later in pairwise(series))
        assert math.isinf(series[0]) and len(set(series)) > 3


@given(
    data=st.sampled_from([2, 3, 8, 64]), tensor=st.sampled_from([1, 2, 4]), context=st.sampled_from([1, 2]),
    micro=st.integers(1, 8), mode=st.sampled_from(MODES),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_higher_zero_stage_never_needs_more_state_bytes(data, tensor, context, micro, mode):
    cut = Cut(data=data, tensor=tensor, context=context, sequence=tensor > 1, zero=np.arange(4))
    # of the moments of a step, that at which all states are there decides here: nothing else is as large
    quiet = replace(
        WORKLOADS[0], head_peak=0.0, work_peak=0.0, saved_block=dict.fromkeys(MODES, 0.0), saved_rest=0.0
    )
    states = np.asarray(device_memory(quiet, cut, micro_batch=micro, recompute=mode).states)
    assert (np.diff(states) <= 1e-6 * states[0]).all() and states[3] < states[0]


def test_unknown_figures_make_unknown_plans():
    offers = [offer(hardware("unpriced", 24.0), None), offer(hardware("memory untold", None)),
              offer(hardware("network untold", 24.0, network=None), node=4)]  # fmt: skip
    search = searched(offers, Limits())
    unpriced, untold, unlinked = (search.plans.hardware == n for n in range(3))
    fits = search.scores.memory.high <= 24.0 * GIB
    assert search.unknown[unpriced & fits].all() and search.unknown[untold].all()
    many = search.plans.devices > 4
    assert np.isnan(search.scores.seconds.middle[unlinked & many]).any()
    assert not np.isnan(search.scores.seconds.middle[unlinked & ~many]).any()
    row = search.best()
    assert row is not None and unlinked[row] and search.plans.devices[row] <= 4
    assert not search.verdict.good[np.isnan(search.scores.capacity)].any()


def test_a_hundred_thousand_plans_in_seconds():
    offers = [offer(hardware(f"device {n}", 4.0 + n, bf16=50.0 + 10 * n), 1.0 + n, node=8) for n in range(24)]
    types = tuple(DeviceType(8, (0, 1)) for _ in offers)
    plans = enumerate_plans(Space(SIZES, 1024, 64, types, (1, 2, 4, 8, 16, 32, 64), runnable=False))
    assert len(plans) >= 100_000
    plans = plans.take(slice(0, 100_000))
    start = time.process_time()
    search = Search(plans, evaluate(plans, offers, WORKLOADS, TOKENS, AROUND), Limits(1e6, 1e4), "cheapest")
    assert search.best() is not None and len(search.pareto()) and search.nearest_miss() is not None
    assert time.process_time() - start < 10


def test_no_plans_give_no_scores():
    assert len(evaluate(Plans.empty(), OFFERS, WORKLOADS, TOKENS, AROUND)) == 0
