"""Steps that are skipped and spikes that are rolled back, in real runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.errors import ArrieroError, Interrupted
from arriero.training.health.settings import HealthSettings
from arriero.training.loop import train
from arriero.training.objectives.base import Batch
from arriero.training.objectives.causal import CausalObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings

Make = Callable[..., Any]
SETTINGS = TrainSettings(
    duration="60 steps", batch_size=4, learning_rate=3e-3, log_every=1, checkpoint_every="5 steps",
    health=HealthSettings(window=16, spike_steps=3, most_skips=5, recompute_every=0),
)  # fmt: skip


class Disturbed(CausalObjective):
    """Multiplies the loss of the batches of just these samples; keeps what it was asked for."""

    def __init__(self, inner: CausalObjective, factors: dict[frozenset[int], float]) -> None:
        super().__init__(inner._windows, 24, document_mask=True)
        self.factors, self.asked = factors, list[list[int]]()
        self.made: dict[bytes, list[int]] = {}

    def batch(self, indices: Sequence[int]) -> Batch:
        made = super().batch(indices)
        self.made[made.ids.numpy().tobytes()] = list(indices)  # made ahead of its step, in another thread
        return made

    def loss_sum(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, figures = super().loss_sum(model, batch)
        self.asked.append(self.made[batch.ids.numpy().tobytes()])
        return loss * self.factors.get(frozenset(self.asked[-1]), 1.0), figures


def order_of(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> list[list[int]]:
    """The samples of each step of an undisturbed run."""
    objective = Disturbed(causal, {})
    train(make_model(), objective, SETTINGS, make_context(), arithmetic=fp32)
    return objective.asked


def test_one_bad_batch_is_skipped_and_the_run_goes_on(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    steps = order_of(make_model, make_context, causal, fp32)
    objective, context = Disturbed(causal, {frozenset(steps[n]): math.nan for n in (0, 24)}), make_context()
    result = train(make_model(), objective, SETTINGS, context, arithmetic=fp32)
    assert [event["step"] for event in result.totals.events] == [1, 25]
    assert sum("is skipped: the loss is nan" in line for line in context.said) == 2
    assert result.steps == 60 and result.totals.curve_means()[-1] < 3
    logged = [line for line in context.lines() if "loss" in line]
    assert all(math.isfinite(line["loss"]) for line in logged)


def spiked(make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic) -> Disturbed:
    """From step 24 on three steps in a row are bad."""
    steps = order_of(make_model, make_context, causal, fp32)
    return Disturbed(causal, {frozenset(steps[n]): 40.0 for n in (23, 24, 25)})


def test_a_spike_is_rolled_back_and_its_data_passed_over(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    objective, context = spiked(make_model, make_context, causal, fp32), make_context()
    result = train(make_model(), objective, SETTINGS, context, arithmetic=fp32)
    first = next(e for e in result.totals.events if e["event"] == "spike")
    back = next(line for line in context.said if "back to step" in line)
    assert first["step"] == 26 and "back to step 20, and past the data of the 6 steps" in back
    position = objective.asked.index(objective.asked[25])
    assert objective.asked[position + 1] not in objective.asked[20:26], (
        "the next samples are those after the spike"
    )
    assert result.totals.passed_over >= 6 * 4 and result.steps == 60
    numbers = [line["step"] for line in context.lines()]
    assert numbers == sorted(set(numbers)), "no step is logged twice"


def test_a_kill_after_the_roll_back_changes_nothing(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic, tmp_path: Path
) -> None:
    whole = make_model()
    train(whole, spiked(make_model, make_context, causal, fp32), SETTINGS, make_context(), arithmetic=fp32)

    class KilledError(Exception):
        """Stands for kill -9."""

    for after in (22, 23, 26):
        context = make_context(root=tmp_path / f"killed{after}")
        report, passed = context.progress, []

        def kill(done: float, *rest: Any, report: Any = report, passed: list[float] = passed,
                 after: int = after, **figures: Any) -> None:  # fmt: skip
            report(done, *rest, **figures)
            passed.append(done)
            if done == after and len(passed) > after:  # the second time that this step is done
                raise KilledError

        context.progress = kill
        with pytest.raises(KilledError):
            train(
                make_model(),
                spiked(make_model, make_context, causal, fp32),
                SETTINGS,
                context,
                arithmetic=fp32,
            )
        resumed, last = make_model(), make_context(root=tmp_path / f"killed{after}")
        train(resumed, spiked(make_model, make_context, causal, fp32), SETTINGS, last, arithmetic=fp32)
        assert last.said[0].startswith("going on from step 2")
        assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_stopped_within_a_spike_it_goes_on_bit_for_bit(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic, tmp_path: Path
) -> None:
    whole, resumed = make_model(), make_model()
    train(whole, spiked(make_model, make_context, causal, fp32), SETTINGS, make_context(), arithmetic=fp32)
    with pytest.raises(Interrupted):
        train(
            make_model(), spiked(make_model, make_context, causal, fp32), SETTINGS,
            make_context(root=tmp_path / "a", stop_at=24), arithmetic=fp32,
        )  # fmt: skip
    context = make_context(root=tmp_path / "a")
    train(resumed, spiked(make_model, make_context, causal, fp32), SETTINGS, context, arithmetic=fp32)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_without_a_checkpoint_from_before_the_run_takes_its_new_course(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    settings = SETTINGS.model_copy(update={"checkpoint_every": "1000 steps"})
    objective, context = spiked(make_model, make_context, causal, fp32), make_context()
    result = train(make_model(), objective, settings, context, arithmetic=fp32)
    assert any("no checkpoint from before" in line for line in context.said)
    assert result.steps == 60 and result.totals.passed_over == 0


def test_a_run_that_took_no_step_makes_no_model(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    model, settings = make_model(), SETTINGS.model_copy(update={"duration": "3 steps"})
    with torch.no_grad():
        model.embedding.weight[3] = math.nan
    with pytest.raises(
        ArrieroError, match="all 3 steps were skipped, and nothing was learnt: the loss is nan"
    ):
        train(model, causal, settings, make_context(), arithmetic=fp32)


def test_a_run_leaves_no_thread(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic, tmp_path: Path
) -> None:
    def threads() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("arriero")}

    before = threads()
    with pytest.raises(Interrupted):
        train(make_model(), causal, SETTINGS, make_context(root=tmp_path / "a", stop_at=3), arithmetic=fp32)
    assert threads() == before


def test_spikes_without_end_stop_the_run(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    """Every sample is bad after a while: no data helps."""

    class Broken(Disturbed):
        def loss_sum(self, model: Any, batch: Batch) -> Any:
            loss, figures = super().loss_sum(model, batch)
            return loss * (40.0 if len(self.asked) > 24 else 1.0), figures

    context = make_context()
    with pytest.raises(ArrieroError, match=r"went back 3 times already.*bad-step"):
        train(make_model(), Broken(causal, {}), SETTINGS, context, arithmetic=fp32)
    assert sum("back to step" in line for line in context.said) == 3
