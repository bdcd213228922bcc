"""Which plans there are, against nested loops."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.cost.search.columns import Plans
from arriero.cost.search.space import DeviceType, Space, enumerate_plans
from arriero.cost.workload import Dimensions

SIZES = Dimensions(d_model=96, n_layers=6, n_heads=12, n_kv_heads=4, head_dim=8, d_ff=256, vocab_size=1000)


def slow(space: Space) -> set[tuple[int, ...]]:
    """Every allowed plan, one after the other, in the order of the columns of `Plans`."""
    s, found = space.dimensions, set()
    for h, device in enumerate(space.devices):
        for n in space.counts:
            if n > device.node and n % device.node:
                continue
            for t in range(1, n + 1):
                if not space.tensor and t > 1:
                    continue
                if s.n_heads % t or s.n_kv_heads % t or s.d_ff % t or device.node % t:
                    continue
                for c in range(1, n + 1):
                    if c > 1 and (not space.context_parallel or space.context % (2 * c * t)):
                        continue
                    if space.context % t:
                        continue
                    for p in range(1, n + 1):
                        if s.n_layers % p or n % (t * c * p) or (p > 1 and not space.pipeline):
                            continue
                        d = n // (t * c * p)
                        for z in space.zero:
                            if z and d * c == 1:
                                continue
                            if (space.runnable and z in (1, 2)) or (p > 1 and z == 2):
                                continue
                            for m in space.micro_batches:
                                a, left = divmod(space.batch, d * m)
                                if left or a == 0 or (p > 1 and a < p):
                                    continue
                                for v in device.variants:
                                    if v in space.whole and t > 1:
                                        continue
                                    for r in space.recompute:
                                        found.add((h, v, n, d, t, c, p, z, m, a, r))
    return found


def table(plans: Plans) -> list[tuple[int, ...]]:
    columns = [getattr(plans, item.name).tolist() for item in fields(Plans)]
    return list(zip(*columns, strict=True))


@given(
    counts=st.lists(st.integers(1, 24), min_size=1, max_size=4, unique=True),
    batch=st.integers(1, 48), context=st.sampled_from([1, 16, 60, 64]), node=st.sampled_from([1, 4, 6, 8]),
    heads=st.integers(1, 12), group=st.integers(1, 3), layers=st.integers(1, 12),
    runnable=st.booleans(), ways=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_equals_nested_loops(counts, batch, context, node, heads, group, layers, runnable, ways):
    sizes = replace(SIZES, n_heads=heads * group, n_kv_heads=heads, n_layers=layers)
    space = Space(
        sizes, context, batch, (DeviceType(node, (0, 2)), DeviceType(8, (1,))), tuple(counts),
        micro_batches=(1, 2, 3, 8), tensor=ways[0], context_parallel=ways[1], pipeline=ways[2],
        whole=frozenset({2}), runnable=runnable,
    )  # fmt: skip
    found = table(enumerate_plans(space))
    assert len(set(found)) == len(found)
    assert set(found) == slow(space)


def test_a_hundred_thousand_plans():
    llama = Dimensions(2048, 16, 32, 8, 64, 8192, 128256)
    space = Space(
        llama, 8192, 128, (DeviceType(),) * 24, tuple(2**k for k in range(10)), runnable=False,
        micro_batches=tuple(2**k for k in range(8)),
    )  # fmt: skip
    plans = enumerate_plans(space)
    assert len(plans) > 100_000
    assert (plans.data * plans.tensor * plans.context * plans.pipeline == plans.devices).all()
    assert (plans.data * plans.micro_batch * plans.accumulation == 128).all()


@pytest.mark.parametrize(
    "space", [Space(SIZES, 64, 8, (), (1,)), Space(SIZES, 64, 7, (DeviceType(),), (2,), zero=())]
)
def test_no_plan_is_no_error(space):
    assert len(enumerate_plans(space)) == 0


def test_ten_devices_do_not_fit_machines_of_eight():
    space = Space(SIZES, 64, 40, (DeviceType(8), DeviceType(10)), (10,))
    plans = enumerate_plans(space)
    assert len(plans) and (plans.hardware == 1).all()
