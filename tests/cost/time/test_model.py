from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cost.time.examples import a_workload, coefficients, ordinary

from arriero.cost.cut import Cut
from arriero.cost.hardware import find
from arriero.cost.time import step_terms
from arriero.cost.time.coefficients import EXPOSED, NAMES, datasheet
from arriero.cost.time.model import demand, slopes

POWERS = st.sampled_from([1, 2, 4, 8])
CUTS = st.builds(
    Cut, data=st.sampled_from([1, 2, 8, 32]), tensor=POWERS, context=st.sampled_from([1, 2]), pipeline=POWERS,
    sequence=st.booleans(), zero=st.sampled_from([0, 1, 2, 3]),
)  # fmt: skip
MODES = st.sampled_from(["none", "selective", "full"])


def test_products_are_flop_over_the_rate() -> None:
    work = a_workload()
    terms = step_terms(work, Cut(), micro_batch=3, accumulation=2, coefficients=coefficients(products=1e-12))
    blocks = work.forward_block.products + work.backward_block.products
    assert terms.products == pytest.approx(8 * blocks * 6 * 1e-12)
    assert terms.total == pytest.approx(terms.products)


def test_recomputation_costs_the_work_it_repeats() -> None:
    work, per = a_workload(), coefficients(products=1e-12, attention=2e-12)
    none = step_terms(work, Cut(), coefficients=per)
    full = step_terms(work, Cut(), recompute="full", coefficients=per)
    selective = step_terms(work, Cut(), recompute="selective", coefficients=per)
    assert full.products - none.products == pytest.approx(8 * work.forward_block.products * 1e-12)
    assert full.attention == pytest.approx(selective.attention)
    assert selective.products == none.products
    assert full.attention - none.attention == pytest.approx(8 * work.forward_block.attention * 2e-12)


def test_the_bubble_is_the_textbooks_share() -> None:
    """(p - 1) / (m + p - 1) of the blocks' time: arXiv 1811.06965."""
    terms = step_terms(
        a_workload(), Cut(pipeline=4), accumulation=5, coefficients=coefficients(products=1e-12)
    )
    assert terms.bubble / terms.total == pytest.approx(3 / (5 + 3))


def test_interleaved_stages_fill_in_a_chunks_time_and_send_as_often() -> None:
    """(p - 1) / v in place of p - 1, and v times the messages: arXiv 2104.04473, section 2.2."""
    per = coefficients(products=1e-12, network=1e-9)
    plain, mixed = (
        step_terms(
            a_workload(),
            Cut(pipeline=4, data=8, chunks=n),
            accumulation=8,
            coefficients=per,
            devices_per_node=1,
        )
        for n in (1, 4)
    )
    assert mixed.products == plain.products
    sent, more = plain.communication, mixed.communication
    assert 0 < sent < more
    bare = coefficients(products=1e-12)
    fill = [
        step_terms(a_workload(), Cut(pipeline=4, chunks=n), accumulation=8, coefficients=bare).bubble
        for n in (1, 4)
    ]
    assert fill[0] == pytest.approx(4 * fill[1])


def test_uneven_stages_wait_for_the_longest() -> None:
    per = coefficients(products=1e-12)
    even = step_terms(a_workload(layers=8), Cut(pipeline=4), accumulation=100, coefficients=per).products
    uneven = step_terms(a_workload(layers=9), Cut(pipeline=4), accumulation=100, coefficients=per).products
    assert uneven == pytest.approx(1.5 * even)


def test_traffic_of_states_hides_behind_work_but_for_a_share() -> None:
    cut = Cut(data=4, zero=3)
    bare = step_terms(a_workload(), cut, coefficients=coefficients(gather=1e-9)).communication
    covered = step_terms(
        a_workload(), cut, coefficients=coefficients(gather=1e-9, products=1e-6)
    ).communication
    assert covered == pytest.approx(EXPOSED * bare)
    long = a_workload().forward + a_workload().backward
    half = 0.5 * (1 - EXPOSED) * bare / ((long.products) * 1.0)
    partly = step_terms(
        a_workload(), cut, coefficients=coefficients(gather=1e-9, products=half)
    ).communication
    assert partly == pytest.approx(bare - 0.5 * (1 - EXPOSED) * bare)


def test_gradients_that_are_summed_first_hide_behind_the_last_micro_batch_alone() -> None:
    work = a_workload()
    bare = step_terms(
        work, Cut(data=4), accumulation=8, coefficients=coefficients(all_reduce=1e-9)
    ).communication
    one = (work.forward + work.backward).products
    rate = 0.5 * (1 - EXPOSED) * bare / one  # a micro-batch is half as long as what could be hidden
    per = coefficients(all_reduce=1e-9, products=rate)
    assert step_terms(work, Cut(data=4), accumulation=8, coefficients=per).communication == pytest.approx(
        bare - 0.5 * (1 - EXPOSED) * bare
    )


def test_launching_shows_only_where_the_device_is_faster() -> None:
    work = a_workload()
    fast = step_terms(work, Cut(), coefficients=coefficients(launch=1e-3, products=1e-18))
    slow = step_terms(work, Cut(), coefficients=coefficients(launch=1e-3, products=1e-6))
    assert fast.host == pytest.approx(8 * 3 * 1e-3, rel=1e-3)
    assert slow.host < 1e-3 * fast.host


@given(cut=CUTS, batch=POWERS, passes=POWERS, mode=MODES, node=st.sampled_from([1, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_slopes_times_coefficients_are_the_seconds(
    cut: Cut, batch: int, passes: int, mode: str, node: int
) -> None:
    arguments = {"micro_batch": batch, "accumulation": passes, "recompute": mode, "devices_per_node": node}
    found = slopes(demand(a_workload(), cut, **arguments), ordinary())  # type: ignore[arg-type]
    terms = step_terms(a_workload(), cut, coefficients=ordinary(), **arguments)  # type: ignore[arg-type]
    together = float(np.array(found, dtype=float) @ ordinary().values)
    assert together == pytest.approx(float(terms.total), rel=1e-9)


@given(cut=CUTS, batch=POWERS, mode=MODES, name=st.sampled_from(NAMES))
@settings(max_examples=40, deadline=None)
def test_a_slope_is_what_a_small_change_brings(cut: Cut, batch: int, mode: str, name: str) -> None:
    index, values = NAMES.index(name), ordinary().values
    change = np.ones(len(NAMES))
    change[index] += 1e-6
    arguments = {"micro_batch": batch, "accumulation": 2, "recompute": mode}
    found = slopes(demand(a_workload(), cut, **arguments), ordinary())  # type: ignore[arg-type]
    before = step_terms(a_workload(), cut, coefficients=ordinary(), **arguments).total  # type: ignore[arg-type]
    after = step_terms(a_workload(), cut, coefficients=ordinary().scaled(change), **arguments).total  # type: ignore[arg-type]
    assert float(after - before) == pytest.approx(
        float(found[index]) * values[index] * 1e-6, rel=1e-3, abs=1e-7 * 1e-6 * float(before) + 1e-15
    )


def test_many_plans_at_once_are_each_of_them_alone() -> None:
    draw = np.random.default_rng(3)
    count = 60
    columns_of = {
        "data": draw.choice([1, 2, 8, 32], count), "tensor": draw.choice([1, 2, 8], count),
        "context": draw.choice([1, 2], count), "pipeline": draw.choice([1, 2, 3], count),
        "sequence": draw.random(count) < 0.5, "zero": draw.choice([0, 1, 2, 3], count),
    }  # fmt: skip
    batch, passes = draw.choice([1, 2, 4], count), draw.choice([1, 3, 16], count)
    mode = draw.choice(["none", "selective", "full"], count)
    together = step_terms(
        a_workload(), Cut(**columns_of), micro_batch=batch, accumulation=passes, recompute=mode,
        coefficients=ordinary(),
    )  # fmt: skip
    for i in range(count):
        alone = step_terms(
            a_workload(), Cut(**{name: values[i].item() for name, values in columns_of.items()}),
            micro_batch=int(batch[i]), accumulation=int(passes[i]), recompute=str(mode[i]), coefficients=ordinary(),
        )  # fmt: skip
        for name, value in alone.named().items():
            every = np.broadcast_to(together.named()[name], count)
            assert every[i] == pytest.approx(float(value), rel=1e-12), name


def test_a_hundred_thousand_plans_take_seconds() -> None:
    count = 100_000
    draw = np.random.default_rng(0)
    cut = Cut(
        data=draw.choice([1, 8, 64], count),
        tensor=draw.choice([1, 8], count),
        zero=draw.choice([0, 3], count),
    )
    started = time.process_time()
    total = step_terms(
        a_workload(), cut, micro_batch=draw.choice([1, 4], count), accumulation=2,
        recompute=draw.choice(["none", "full"], count), coefficients=ordinary(),
    ).total  # fmt: skip
    assert np.shape(total) == (count,)
    assert time.process_time() - started < 3  # 30 us a plan; 1 us where nothing else runs


def test_what_is_unknown_makes_time_unknown_and_only_what_needs_it() -> None:
    v100, work = find("V100"), a_workload()
    terms = step_terms(work, Cut(), hardware=v100)
    assert np.isnan(terms.products)
    assert np.isnan(terms.total)
    lonely = find("RTX 4090")  # its network is unknown
    assert np.isfinite(float(step_terms(work, Cut(data=8, zero=3), hardware=lonely).total))
    assert np.isnan(float(step_terms(work, Cut(data=16, zero=3), hardware=lonely).total))
    assert "bf16" in datasheet(v100).missing[0]


def test_one_of_hardware_and_coefficients_is_needed() -> None:
    with pytest.raises(ValueError, match="hardware or coefficients"):
        step_terms(a_workload(), Cut())


@given(cut=CUTS, batch=POWERS)
@settings(max_examples=30, deadline=None)
def test_slower_coefficients_never_make_a_step_faster(cut: Cut, batch: int) -> None:
    base = float(step_terms(a_workload(), cut, micro_batch=batch, coefficients=ordinary()).total)
    for index in range(len(NAMES)):
        slower = np.ones(len(NAMES))
        slower[index] = 1.5
        found = step_terms(a_workload(), cut, micro_batch=batch, coefficients=ordinary().scaled(slower)).total
        assert float(found) >= base * (1 - 1e-12)
