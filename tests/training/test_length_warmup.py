from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.training.conftest import MadeUpWindows

from arriero.training.length_warmup import LengthWarmup, cut_rows
from arriero.training.loop import train
from arriero.training.objectives.causal import CausalObjective
from arriero.training.plan import run_load
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work

Make = Callable[..., Any]


@given(st.integers(2, 9), st.integers(1, 6), st.floats(0.01, 0.99), st.floats(0, 1))
def test_rows_double_up_to_the_window(start: int, doublings: int, share: float, done: float) -> None:
    warmup = LengthWarmup(start, start << doublings, share)
    length = warmup.length(done)
    assert length in [start << n for n in range(doublings + 1)]
    assert warmup.length(0.0) == start and warmup.length(share) == warmup.full
    assert (length == warmup.full) == (done >= share)
    assert warmup.length(done / 2) <= length


@pytest.mark.parametrize(("start", "full"), [(5, 24), (24, 24), (48, 24), (1, 24), (7, 28 * 3)])
def test_lengths_that_do_not_double_to_the_window_are_refused(start: int, full: int) -> None:
    with pytest.raises(ValueError, match="halved once or more"):
        LengthWarmup(start, full, 0.2)


def test_cut_rows_are_the_windows_own_halves(make_model: Make, causal: CausalObjective) -> None:
    """Every token still comes once and is scored against the one after it; nothing before the row is seen."""
    model, batch = make_model(), causal.batch([3, 7, 1])
    short = cut_rows(batch, 12)
    assert short.ids.shape == (6, 12) and short.tokens == batch.tokens
    halves = torch.stack([batch.ids[:, :12], batch.ids[:, 12:]], dim=1).flatten(0, 1)
    assert torch.equal(short.ids, halves)
    total = causal.loss_sum(model, short)[0]
    one_by_one = sum(
        float(causal.loss_sum(model, cut_rows(causal.batch([i]), 12))[0].detach()) for i in (3, 7, 1)
    )
    assert float(total.detach()) == pytest.approx(one_by_one, rel=1e-5)
    segments = batch.segments
    assert segments is not None
    logits = model.logits(
        model.hidden(halves, segments=torch.stack([segments[:, :12], segments[:, 12:]], 1).flatten(0, 1))
    )
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets, reduction="sum")
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert cut_rows(batch, 24) is batch


def test_a_run_begins_with_short_rows_and_the_plan_counts_them(make_model: Make, make_context: Make) -> None:
    windows, warmup = MadeUpWindows(40, 24), LengthWarmup(6, 24, 0.5)
    objective, plain = CausalObjective(windows, 24, True, warmup), CausalObjective(windows, 24, True)
    seen: list[tuple[int, ...]] = []
    real = objective.loss_sum
    objective.loss_sum = lambda model, batch: seen.append(tuple(batch.ids.shape)) or real(model, batch)  # type: ignore[method-assign,func-returns-value,return-value]
    settings = TrainSettings(duration="20 steps", batch_size=4)
    model = make_model()
    flops = TracedFlops(Work(model.config, plain, settings, "fp32"))
    result = train(model, objective, settings, make_context(), arithmetic=Arithmetic("fp32", 1), flops=flops)
    assert seen == [(16, 6)] * 5 + [(8, 12)] * 5 + [(4, 24)] * 10
    assert result.totals.tokens == 20 * 4 * 24
    load = run_load(settings, objective, None, 0)
    planned = [(shape.rows, shape.length) for step in load.typical for shape in step]
    assert planned == seen
    whole = train(
        make_model(), plain, settings, make_context(), arithmetic=Arithmetic("fp32", 1), flops=flops
    )
    assert result.totals.train_flops < whole.totals.train_flops
