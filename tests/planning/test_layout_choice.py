"""Layouts that a question leaves open: all of them deal the model out, and the best is the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost.workload import Dimensions
from arriero.errors import ArrieroError
from arriero.planning.estimate.layout_choice import Wish, choose, layouts, row_of, usual_batch_tokens

SIZES = Dimensions(
    d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, head_dim=128, d_ff=14336, vocab_size=128256
)


@given(count=st.integers(1, 300), batch=st.integers(1, 600), context=st.sampled_from([512, 2048, 65536]))
def test_every_layout_uses_all_devices_and_keeps_the_step(count: int, batch: int, context: int) -> None:
    found = layouts(Wish(SIZES, context, count, batch))
    assert (np.asarray(found.cut.devices) == count).all()
    assert (found.sequences >= 1).all() and (np.asarray(found.cut.tensor) <= 8).all()
    assert ((np.asarray(found.cut.zero) == 0) == (np.asarray(found.cut.sharers) == 1)).all()
    smallest = found.sequences.min()
    assert found.sequences.max() <= max(1.25 * batch, smallest)


def test_what_is_given_is_kept() -> None:
    parallel = {"data": 4, "tensor": 2, "context": 1, "pipeline": 2}
    found = layouts(Wish(SIZES, 2048, 16, 64, parallel=parallel, zero=1, micro_batch=2, recompute="full"))
    assert len(found) == 1
    row = row_of(found, 0)
    assert (row.cut.data, row.cut.tensor, row.cut.pipeline, row.cut.zero) == (4, 2, 2, 1)
    assert (row.micro_batch, row.accumulation, row.recompute, row.sequences) == (2, 8, "full", 64)


def test_the_fastest_that_fits_else_of_the_smallest() -> None:
    found = layouts(Wish(SIZES, 2048, 8, 64))
    draw = np.random.default_rng(3)
    seconds, peak = draw.uniform(1, 2, len(found)) * found.sequences, draw.uniform(1, 2, len(found))
    best = choose(found, seconds, peak, 1.5)
    pace = np.where(peak <= 1.5, seconds / found.sequences, np.inf)
    assert best == row_of(found, int(pace.argmin()))
    nearly = np.where(peak <= 1.25 * peak.min(), seconds / found.sequences, np.inf)
    assert choose(found, seconds, peak, 0.5) == row_of(found, int(nearly.argmin()))
    assert nearly.argmin() != peak.argmin(), "the draw tells the two rules apart"
    assert choose(found, seconds, peak, peak.min()) == row_of(found, int(peak.argmin())), "one fits"
    assert choose(found, seconds, peak, None) == row_of(found, int((seconds / found.sequences).argmin()))


def test_unknown_seconds_take_the_simplest_that_fits() -> None:
    found = layouts(Wish(SIZES, 2048, 8, 64))
    best = choose(found, np.full(len(found), np.nan), np.ones(len(found)), 2.0)
    assert best.cut.tensor == best.cut.pipeline == best.cut.context == 1


def test_a_layout_that_cuts_nothing_evenly() -> None:
    parallel = {"data": 1, "tensor": 1, "context": 3, "pipeline": 1}
    with pytest.raises(ArrieroError, match="does not cut context 2,048 and 3 devices evenly"):
        layouts(Wish(SIZES, 2048, 3, 8, parallel=parallel))


def test_batches_grow_with_the_model() -> None:
    tokens = [usual_batch_tokens(n) for n in (10**8, 10**9, 10**10, 10**11)]
    assert tokens == [5e5, 1e6, 2e6, 4e6]


@pytest.mark.parametrize(("batch", "chunks"), [(64, 16), (32, 16), (48, 1), (16, 1)])
def test_pipelines_are_interleaved_where_micro_batches_come_in_multiples_of_the_stages(
    batch: int, chunks: int
) -> None:
    parallel = {"data": 16, "tensor": 1, "context": 1, "pipeline": 2}
    found = layouts(Wish(SIZES, 2048, 32, batch, parallel=parallel, zero=1, micro_batch=1, recompute="none"))
    assert row_of(found, 0).cut.chunks == chunks
    parallel = {"data": 32, "tensor": 1, "context": 1, "pipeline": 1}
    alone = layouts(Wish(SIZES, 2048, 32, batch, parallel=parallel, zero=3, micro_batch=1, recompute="none"))
    assert row_of(alone, 0).cut.chunks == 1
