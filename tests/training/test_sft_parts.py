"""Micro-batches of conversations: little padding, nothing lost, nothing twice."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.training.objectives.packing import LENGTH_STEP
from arriero.training.objectives.sft import PASS_TOKENS, least_padding


def cost(lengths: list[int], parts: list[tuple[int, int]]) -> int:
    padded = [-(-lengths[stop - 1] // LENGTH_STEP) * LENGTH_STEP for _, stop in parts]
    return sum((stop - start) * n + PASS_TOKENS for (start, stop), n in zip(parts, padded, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=9), st.integers(1, 9))
def test_no_other_cuts_cost_less(lengths: list[int], size: int) -> None:
    lengths.sort()
    parts = least_padding(lengths, size)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(len(lengths)))
    assert all(0 < stop - start <= size for start, stop in parts)
    every = []
    for count in range(len(lengths)):
        for cuts in itertools.combinations(range(1, len(lengths)), count):
            others = list(itertools.pairwise([0, *cuts, len(lengths)]))
            if all(stop - start <= size for start, stop in others):
                every.append(cost(lengths, others))
    assert not lengths or cost(lengths, parts) == min(every)


def test_rows_of_one_length_stay_together() -> None:
    assert least_padding([64] * 8, 8) == [(0, 8)]
