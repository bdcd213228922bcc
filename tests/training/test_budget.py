from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arriero.errors import Interrupted
from arriero.training.budget import Timed, budget_of, run_length
from arriero.training.duration import Duration
from arriero.training.loop import train
from arriero.training.metrics import Totals
from arriero.training.objectives.causal import CausalObjective
from arriero.training.precision import Arithmetic
from arriero.training.schedule import learning_rate, learning_rate_within, warmup_steps
from arriero.training.settings import TrainSettings

Make = Callable[..., Any]


def totals(**values: Any) -> Totals:
    return Totals(**values)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("100 cpu-seconds", "100 cpu-seconds"), ("2 CPU-minutes", "120 cpu-seconds"),
        ("1 cpu-hour", "3600 cpu-seconds"), ("1 h", "3600 seconds"), ("90 s", "90 seconds"),
        ("1.5 min", "90 seconds"),
    ],
)  # fmt: skip
def test_seconds_are_read(text: str, normal: str) -> None:
    assert str(Duration.parse(text)) == normal
    assert Duration.parse(normal).timed


def test_seconds_are_no_samples() -> None:
    with pytest.raises(ValueError, match="90 seconds are no number of samples"):
        Duration.parse("90 s").samples(10, 5.0, 4)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", ["0", "10 %", "7 steps"])
def test_the_learning_rate_follows_the_share_as_it_follows_the_steps(schedule: Any, warmup: str) -> None:
    """Steps of equal cost: both courses are the same but for what rounding a share to steps changes."""
    settings = TrainSettings(schedule=schedule, warmup=warmup, learning_rate=0.5)
    warm = warmup_steps(settings, 200, lambda tokens: 0)
    for step in range(200):
        counted = learning_rate(settings, step, 200, warm)
        timed = learning_rate_within(settings, step, (step + 1) / 200)
        assert timed == pytest.approx(counted, abs=0.04 * 0.5)
    assert learning_rate_within(settings, 199, 1.0) == pytest.approx(learning_rate(settings, 199, 200, warm))


def test_a_budget_of_seconds_ends_when_it_is_used() -> None:
    settings = TrainSettings(duration="10 cpu-seconds", eval_points=4)
    budget = budget_of(settings, None)  # type: ignore[arg-type]
    assert isinstance(budget, Timed)
    assert not budget.finished(totals(step=9, cpu_seconds=9.9, train_seconds=50.0))
    assert budget.finished(totals(step=9, cpu_seconds=10.1))
    wall = budget_of(settings.model_copy(update={"duration": "10 seconds"}), None)  # type: ignore[arg-type]
    assert wall.finished(totals(step=9, cpu_seconds=1.0, train_seconds=10.0))
    assert budget.progress(totals(step=3, cpu_seconds=2.5)) == (2.5, 10, "CPU seconds")


def test_evaluations_are_spread_over_the_budget() -> None:
    settings = TrainSettings(duration="10 cpu-seconds", eval_points=4)
    budget, run, found = budget_of(settings, None), totals(), []  # type: ignore[arg-type]
    for step in range(51):
        run.step, run.cpu_seconds = step, 0.2 * step
        if budget.evaluation_due(run):
            run.evaluations.append({"step": step, "cpu_seconds": run.cpu_seconds, "train_seconds": 0.0})
            found.append(step)
    assert found == [0, 13, 25, 38, 50]


def test_training_ends_with_its_budget_and_tells_what_it_cost(
    make_model: Make, make_context: Make, causal: CausalObjective
) -> None:
    settings = TrainSettings(
        duration="0.6 cpu-seconds",
        batch_size=6,
        learning_rate=1e-2,
        eval_points=5,
        eval_samples=20,
        log_every=5,
    )
    context = make_context()
    start = time.process_time()
    result = train(make_model(), causal, settings, context, arithmetic=Arithmetic("fp32", 1), heldout=causal)
    taken = time.process_time() - start
    assert 0.6 <= result.totals.cpu_seconds < 0.75
    assert taken > result.totals.cpu_seconds, "evaluations are not counted against the budget"
    evaluations = result.totals.evaluations
    assert 4 <= len(evaluations) <= 6
    assert evaluations[0]["tokens"] == 0 and evaluations[-1]["step"] == result.steps
    costs = [e["cpu_seconds"] for e in evaluations]
    assert costs == sorted(costs) and costs[-1] == pytest.approx(result.totals.cpu_seconds, abs=1e-3)
    lines = context.lines()
    heldout = [line for line in lines if "heldout_loss" in line]
    assert len(heldout) == len(evaluations)
    assert all({"cpu_seconds", "tokens_seen", "heldout_loss"} <= line.keys() for line in heldout)
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[-1] == pytest.approx(1e-3, rel=0.2), "the cosine ends where the budget ends"
    assert max(rates) > 5e-3 and rates == sorted(rates, reverse=True)
    assert evaluations[-1]["loss"] < 0.8 * evaluations[0]["loss"] < math.log(64)


def test_what_is_used_stays_used_over_a_resume(
    make_model: Make, make_context: Make, causal: CausalObjective, tmp_path: Any
) -> None:
    settings = TrainSettings(duration="0.4 cpu-seconds", batch_size=6, warmup="0")
    context = make_context(root=tmp_path / "a")
    seen: list[float] = []
    context.progress = lambda done, total, unit, **figures: seen.append(done)
    context.stop_requested = lambda: bool(seen) and seen[-1] > 0.2
    with pytest.raises(Interrupted, match=r"step \d+ \(0\.\d of 0\.4 CPU seconds\)"):
        train(make_model(), causal, settings, context, arithmetic=Arithmetic("fp32", 1))
    again = make_context(root=tmp_path / "a")
    result = train(make_model(), causal, settings, again, arithmetic=Arithmetic("fp32", 1))
    assert "going on from step" in again.said[0]
    assert 0.4 <= result.totals.cpu_seconds < 0.5
    assert result.totals.tokens == result.steps * 6 * 24


def test_a_batch_grows_with_the_seconds_or_with_the_tokens(causal: CausalObjective) -> None:
    growing = {"batch_size": 16, "batch_size_start": 2, "duration": "10 cpu-seconds"}
    shares = budget_of(TrainSettings.model_validate({**growing, "batch_warmup": "50 %"}), causal)
    sizes = [shares.next_position(totals(samples=7, cpu_seconds=0.5 * n)) - 7 for n in range(20)]
    assert sizes[0] == 2 and sizes == sorted(sizes) and sizes[9] < 16 == sizes[10] == sizes[-1]
    tokens = budget_of(TrainSettings.model_validate({**growing, "batch_warmup": "2400 tokens"}), causal)
    assert tokens.next_position(totals(samples=50, cpu_seconds=9.0)) == 50 + 8, (
        "half of 100 samples of 24 tokens"
    )
    assert tokens.next_position(totals(samples=100)) == 116


def test_a_warmup_in_tokens_follows_the_tokens(causal: CausalObjective) -> None:
    common = {"warmup": "960 tokens", "schedule": "constant", "learning_rate": 1.0, "batch_size": 4}
    timed = budget_of(TrainSettings.model_validate({**common, "duration": "10 s"}), causal)
    seen = [timed.learning_rate(totals(step=n, tokens=96 * n, train_seconds=0.01 * n)) for n in range(12)]
    counted = budget_of(TrainSettings.model_validate({**common, "duration": "12 steps"}), causal)
    assert seen == pytest.approx([counted.learning_rate(totals(step=n)) for n in range(12)])
    assert seen[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    growing = {**common, "duration": "40 steps", "batch_warmup": "960 tokens", "batch_size_start": 1}
    slower = budget_of(TrainSettings.model_validate(growing), causal)
    rates = [slower.learning_rate(totals(step=n)) for n in range(40)]
    assert rates.index(1.0) > 10, "small batches have fewer tokens"


def test_a_growing_batch_goes_on_bit_for_bit(
    make_model: Make, make_context: Make, causal: Any, tmp_path: Any
) -> None:
    settings = TrainSettings(
        duration="3 epochs", batch_size=16, batch_warmup="40 %", batch_size_start=2, learning_rate=1e-2
    )  # fmt: skip
    seen: list[int] = []
    whole, resumed, arithmetic = make_model(), make_model(), Arithmetic("fp32", 1)
    context = make_context()
    real = causal.loss_sum

    def watched(model: Any, batch: Any) -> Any:
        seen.extend(batch.ids[:, 0].tolist())
        return real(model, batch)

    causal.loss_sum = watched
    result = train(whole, causal, settings, context, arithmetic=arithmetic)
    every = [int(causal.batch([i]).ids[0, 0]) for i in range(40)]
    assert sorted(seen) == sorted(every * 3) and result.totals.samples == 120
    assert result.steps == run_length(settings, causal)[0] > 8
    with pytest.raises(Interrupted):
        train(
            make_model(),
            causal,
            settings,
            make_context(root=tmp_path / "a", stop_at=5),
            arithmetic=arithmetic,
        )
    train(resumed, causal, settings, make_context(root=tmp_path / "a"), arithmetic=arithmetic)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
