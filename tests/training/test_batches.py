from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arriero.training.batches import SampleOrder, micro_batches, permutation


@given(st.integers(1, 200), st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_each_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(n, seed, epoch)) == list(range(n))


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_the_same_for_ever() -> None:
    # A resumed run, perhaps under another numpy, must see the same samples.
    assert permutation(8, 1, 0).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]


@given(st.integers(1, 30), st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_samples_do_not_depend_on_how_they_are_taken(n: int, steps: list[int]) -> None:
    whole = SampleOrder(n, 4).take(0, sum(steps))
    order, position, found = SampleOrder(n, 4), 0, []
    for step in steps:
        found += order.take(position, position + step)
        position += step
    assert found == whole
    for start in range(0, len(whole) - n + 1, n):
        assert sorted(whole[start : start + n]) == list(range(n)), "each epoch sees each sample once"


@given(st.lists(st.integers(0, 99), min_size=1, max_size=40, unique=True), st.integers(1, 8))
def test_micro_batches_hold_each_sample_once_and_like_lengths_together(indices: list[int], size: int) -> None:
    parts = micro_batches(indices, size, lambda i: i % 7)
    flat = [i for part in parts for i in part]
    assert sorted(flat) == sorted(indices)
    assert max(map(len, parts)) <= size
    assert np.all(np.diff([i % 7 for i in flat]) >= 0)
