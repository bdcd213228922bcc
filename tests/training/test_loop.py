from __future__ import annotations

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.errors import ArrieroError, Interrupted
from arriero.models.decoder import Decoder
from arriero.training.budget import run_length
from arriero.training.checkpoints import writer
from arriero.training.loop import TrainResult, train
from arriero.training.micro_batch import micro_batch_size
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.precision import Arithmetic
from arriero.training.settings import TrainSettings
from arriero.training.traced import TracedFlops, Work
from arriero.tuning.lora import apply_lora

Make = Callable[..., Any]
TIMES = ("seconds", "tokens_per_s", "cpu_seconds", "train_seconds", "memory_bytes", "data_wait_share")
"""Figures that no two runs have alike."""
SETTINGS = TrainSettings(
    duration="30 steps", batch_size=6, micro_batch_size=4, learning_rate=1e-2, eval_every=12, log_every=4,
    checkpoint_every="5 steps",
)  # fmt: skip


def weights(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def without_times(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(model: Decoder, objective: Any, context: Any, arithmetic: Arithmetic, **options: Any) -> TrainResult:
    settings = options.pop("settings", SETTINGS)
    return train(model, objective, settings, context, arithmetic=arithmetic, **options)


def test_it_learns_and_tells(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    model, context = make_model(), make_context()
    flops = TracedFlops(Work(model.config, causal, SETTINGS, "fp32"))
    result = run(model, causal, context, fp32, heldout=causal, flops=flops)
    evaluations = result.totals.evaluations
    assert [e["step"] for e in evaluations] == [0, 12, 24, 30]
    assert evaluations[0]["loss"] == pytest.approx(math.log(64), rel=0.05)
    assert evaluations[-1]["loss"] < 0.7 * evaluations[0]["loss"]
    assert result.totals.tokens == 30 * 6 * 24
    assert context.done == list(range(1, 31))
    steps = [line["step"] for line in context.lines() if "loss" in line]
    assert steps == [4, 8, 12, 16, 20, 24, 28, 30]
    assert {"lr", "grad_norm", "tokens_seen", "tokens_per_s", "seconds"} <= context.lines()[1].keys()
    batch = causal.batch(range(6))
    train_flops, pass_flops = 30 * flops.training(batch), 4 * flops.evaluation(causal.batch(range(40)))
    assert context.flops == pytest.approx(train_flops + pass_flops)
    assert result.totals.train_flops == pytest.approx(train_flops)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("lora", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(
    make_model: Make, make_context: Make, rows: list[Row], tmp_path: Path, precision: Any, lora: bool
) -> None:
    """With dropout, so that the generators count too."""
    arithmetic, objective = Arithmetic(precision, 1), SftObjective(rows)

    def fresh() -> Decoder:
        model = make_model()
        if lora:
            apply_lora(model, 4, 8.0, 0.3, "all-linear", 0)
        return model

    whole, context = fresh(), make_context()
    once = run(whole, objective, context, arithmetic, heldout=objective)
    curve = without_times(context.lines())
    root = tmp_path / "stopped"
    for stop in (7, 13, 24):
        stopped = make_context(root=root, stop_at=stop)
        with pytest.raises(Interrupted, match=f"step {stop} of 30"):
            run(fresh(), objective, stopped, arithmetic, heldout=objective)
    model, last = fresh(), make_context(root=root)
    resumed = run(model, objective, last, arithmetic, heldout=objective)
    assert equal(weights(model), weights(whole))
    assert last.said == ["going on from step 24 of 30"]
    assert without_times(last.lines()) == curve
    assert without_times(resumed.totals.evaluations) == without_times(once.totals.evaluations)
    assert resumed.totals.curve_means() == once.totals.curve_means()


def test_steps_that_are_repeated_are_counted_and_logged_once(
    make_model: Make, make_context: Make, causal: CausalObjective, tmp_path: Path, fp32: Arithmetic
) -> None:
    flops = TracedFlops(Work(make_model().config, causal, SETTINGS, "fp32"))
    whole = make_context()
    run(make_model(), causal, whole, fp32, flops=flops)

    class KilledError(Exception):
        """Stands for kill -9."""

    first = make_context(root=tmp_path / "killed")
    report = first.progress

    def kill(done: float, *rest: Any, **figures: Any) -> None:
        report(done, *rest, **figures)
        if done == 18:
            raise KilledError

    first.progress = kill
    with pytest.raises(KilledError):
        run(make_model(), causal, first, fp32, flops=flops)
    second = make_context(root=tmp_path / "killed")
    run(make_model(), causal, second, fp32, flops=flops)
    assert second.done[0] == 16, "the last checkpoint was of step 15"
    assert first.flops + second.flops == pytest.approx(whole.flops)
    assert [line["step"] for line in second.lines()] == [line["step"] for line in whole.lines()]
    assert [line.get("loss") for line in second.lines()] == [line.get("loss") for line in whole.lines()]


def test_other_settings_do_not_go_on_from_its_checkpoints(
    make_model: Make, make_context: Make, causal: CausalObjective, tmp_path: Path, fp32: Arithmetic
) -> None:
    with pytest.raises(Interrupted):
        run(make_model(), causal, make_context(root=tmp_path / "a", stop_at=10), fp32)
    context = make_context(root=tmp_path / "a")
    run(make_model(), causal, context, fp32, settings=SETTINGS.model_copy(update={"learning_rate": 2e-2}))
    assert any("another run" in line for line in context.said)
    assert context.done[0] == 1


def test_a_loss_that_is_not_finite_stops_before_the_update(
    make_model: Make, make_context: Make, causal: CausalObjective, fp32: Arithmetic
) -> None:
    model, context = make_model(), make_context()
    with torch.no_grad():
        model.embedding.weight[3] = math.inf
    before = weights(model)
    with pytest.raises(ArrieroError, match=r"step 16: the loss is nan; it is the 16th.*lower learning_rate"):
        run(model, causal, context, fp32)
    assert all(torch.equal(p.isnan(), before[n].isnan()) for n, p in model.named_parameters())
    assert (context.state / "bad-step-16.json").exists()
    assert sum("is skipped: the loss is nan" in line for line in context.said) >= 14


def test_a_full_disk_does_not_stop_training(
    make_model: Make,
    make_context: Make,
    causal: CausalObjective,
    fp32: Arithmetic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, model, context = make_model(), make_model(), make_context()
    run(whole, causal, make_context(), fp32)
    real, count = writer.write_tensors, iter(range(100))

    def sometimes_full(*args: Any) -> None:
        if next(count) in (1, 2, 3):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(writer, "write_tensors", sometimes_full)
    run(model, causal, context, fp32)
    assert equal(weights(model), weights(whole))
    assert sum("No space left" in line for line in context.said) == 3


def test_an_epoch_sees_every_sample_once_whatever_the_batch(
    make_model: Make, make_context: Make, fp32: Arithmetic, rows: list[Row]
) -> None:
    class Seen(SftObjective):
        def loss_sum(self, model: Any, batch: Any) -> Any:
            seen.extend(ids[ids != 0][:3].tolist() for ids in batch.ids)
            return super().loss_sum(model, batch)

    seen: list[list[int]] = []
    settings = TrainSettings(duration="2 epochs", batch_size=3)
    result = run(make_model(), Seen(rows), make_context(), fp32, settings=settings)
    starts = [row.ids[row.ids != 0][:3].tolist() for row in rows]
    assert result.steps == 6 and sorted(seen) == sorted(starts + starts)


def test_an_empty_training_set_is_one_line(make_model: Make, make_context: Make, fp32: Arithmetic) -> None:
    with pytest.raises(ArrieroError, match="empty"):
        run(make_model(), SftObjective([]), make_context(), fp32)


def test_sizes(causal: CausalObjective) -> None:
    assert run_length(TrainSettings(duration="1 epochs", batch_size=16), causal) == (3, 40)
    assert run_length(TrainSettings(duration="1000 tokens", batch_size=16), causal) == (3, 48)
    assert micro_batch_size(TrainSettings(batch_size=32), 256) == 16
    assert micro_batch_size(TrainSettings(batch_size=8), 256) == 8
    assert micro_batch_size(TrainSettings(batch_size=8), 10_000) == 1
    assert micro_batch_size(TrainSettings(batch_size=8, micro_batch_size=3), 10) == 3
