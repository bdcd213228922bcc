"""Loops whose turns are alike: covered in full in a run, counted in full in a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.trace import trace
from arriero.cost.turns import counting, turns
from arriero.training.objectives import linear_head
from arriero.training.objectives.linear_head import scores_to_errors


@given(st.integers(0, 200), st.integers(1, 40))
def test_a_run_takes_every_turn(length: int, step: int) -> None:
    assert [i for part in turns(length, step) for i in range(length)[part]] == list(range(length))


@given(st.integers(0, 200), st.integers(1, 40))
def test_what_is_counted_is_every_turn(length: int, step: int) -> None:
    weight = 1

    @contextmanager
    def times(count: int) -> Iterator[None]:
        nonlocal weight
        weight *= count
        yield
        weight //= count

    with counting(times):
        found = [(weight, len(range(length)[part])) for part in turns(length, step)]
    assert sum(count * rows for count, rows in found) == length
    assert sum(count for count, _ in found) == -(-length // step)
    assert weight == 1 and len(found) <= 3


@pytest.mark.parametrize("rows", [1, 7, 32, 33, 100])
def test_a_trace_finds_what_a_trace_of_every_turn_finds(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "CACHED_SCORES", 8 * 50)

    def traced() -> tuple[object, ...]:
        found = trace(
            lambda: [torch.zeros(rows, 50), torch.zeros(rows, 1, dtype=torch.long), torch.ones(rows, 1)],
            lambda state: scores_to_errors(*state),
        )
        return found.ops, found.peak_bytes, found.end_bytes

    short = traced()

    def every(length: int, step: int) -> Iterator[slice]:
        return (slice(start, start + step) for start in range(0, length, step))

    monkeypatch.setattr(linear_head, "turns", every)
    assert traced() == short


def test_real_figures_under_the_tracker_are_of_every_turn() -> None:
    def run(state: list[int]) -> None:
        state.extend(range(10)[part].start for part in turns(10, 2))

    seen: list[int] = []
    trace(lambda: seen, run, fake=False)
    assert seen == [0, 2, 4, 6, 8]
