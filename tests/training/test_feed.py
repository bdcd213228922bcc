from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.training.feed import Feed
from arriero.training.loop import train
from arriero.training.objectives.base import Batch
from arriero.training.objectives.causal import CausalObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings

Make = Callable[..., Any]
CPU = torch.device("cpu")


class Slow(CausalObjective):
    """Samples that take a while, made by one thread at a time."""

    def __init__(self, inner: CausalObjective, seconds: float = 0.0) -> None:
        super().__init__(inner._windows, 24, document_mask=True)
        self.seconds, self.busy, self.asked = seconds, threading.Lock(), list[list[int]]()

    def batch(self, indices: Sequence[int]) -> Batch:
        assert self.busy.acquire(blocking=False), "two threads at once"
        self.asked.append(list(indices))
        time.sleep(self.seconds)
        self.busy.release()
        return super().batch(indices)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12), jump=st.integers(0, 100))
def test_any_steps_are_what_they_would_be_alone(causal: CausalObjective, sizes: list[int], jump: int) -> None:
    """Steps that go on, change their size, and jump (a spike's data passed over)."""
    feed, start = Feed(Slow(causal), 3, 4, CPU), 0
    for number, size in enumerate(sizes):
        start += jump if number == len(sizes) // 2 else 0
        found, alone = feed.step(start, start + size), Feed(causal, 3, 4, CPU)
        expected = alone.step(start, start + size)
        alone.close()
        assert found.indices == expected.indices and found.weight == expected.weight
        assert all(torch.equal(a.ids, b.ids) for a, b in zip(found.batches, expected.batches, strict=True))
        start += size
    feed.close()


def test_samples_come_while_the_step_is_computed(causal: CausalObjective) -> None:
    feed = Feed(Slow(causal, 0.05), 0, 8, CPU)
    first = feed.step(0, 4)
    time.sleep(0.3)
    second = feed.step(4, 8)
    feed.close()
    assert first.waited > 0.04 and second.waited < 0.04


def test_the_wait_is_measured_and_told(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    context = make_context()
    steps = TrainSettings(duration="5 steps", batch_size=2, micro_batch_size=2, log_every=5)
    result = train(make_model(), Slow(causal, 0.1), steps, context, arithmetic=fp32)
    assert 0.1 < result.totals.waited < result.totals.train_seconds
    line = [line for line in context.lines() if "data_wait_share" in line][-1]
    assert line["data_wait_share"] == pytest.approx(
        result.totals.waited / result.totals.train_seconds, rel=0.05
    )


def test_what_goes_wrong_in_the_thread_is_raised_in_the_step(causal: CausalObjective) -> None:
    class Broken(CausalObjective):
        def batch(self, indices: Sequence[int]) -> Batch:
            raise ArrieroError("a shard is damaged")

    feed = Feed(Broken(causal._windows, 24, document_mask=True), 0, 4, CPU)
    with pytest.raises(ArrieroError, match="a shard is damaged"):
        feed.step(0, 4)
    feed.close()
