from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from arriero.errors import ArrieroError, Interrupted
from arriero.training.checkpoints import store as stores
from arriero.training.evaluation import evaluate
from arriero.training.loop import TrainResult, train
from arriero.training.metrics import Totals
from arriero.training.objectives.causal import CausalObjective
from arriero.training.objectives.sft import Row, SftObjective
from arriero.training.precision import Arithmetic
from arriero.training.saving import Saver
from arriero.training.settings import TrainSettings

Make = Callable[..., Any]
CPU = torch.device("cpu")


class Nothing:
    """An objective that carries nothing."""

    def carried(self) -> dict[str, torch.Tensor]:
        return {}

    def carry(self, tensors: dict[str, torch.Tensor]) -> None:
        assert not tensors


@pytest.fixture
def make_saver(make_context: Make, tmp_path: Path) -> Make:
    def make(model: torch.nn.Module, optimizer: torch.optim.Optimizer, **settings: Any) -> tuple[Saver, Any]:
        context = make_context(root=tmp_path / "saved")
        named: Any = dict(model.named_parameters())
        nothing: Any = Nothing()
        given = TrainSettings(**{"keep_checkpoints": 9, **settings})
        return Saver(context, given, named, optimizer, nothing, CPU, lambda: "same"), context

    return make


def trained(seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def evaluated(step: int, *losses: tuple[int, float]) -> Totals:
    return Totals(step=step, evaluations=[{"step": at, "loss": loss} for at, loss in losses])


def test_due_by_steps_by_clock_for_good_and_for_the_best(make_saver: Make, monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("arriero.training.saving.time.monotonic", lambda: now[0])
    saver, _ = make_saver(*trained(), checkpoint_every="10 steps", keep_every=7, keep_best=1, eval_every=1)
    due = [step for step in range(1, 31) if saver.due(Totals(step=step))]
    assert due == [7, *range(10, 31)], "until one is saved"
    assert saver.due(evaluated(3, (0, 9.0), (3, 2.0)))
    assert saver.due(evaluated(4, (3, 2.0), (4, 1.0)))
    assert not saver.due(evaluated(5, (3, 2.0), (4, 1.0), (5, 1.5)))
    assert not saver.due(evaluated(6, (3, 2.0), (4, 1.0))), "not measured here"
    assert not saver.due(evaluated(5, (5, float("nan"))))
    saver.save(Totals(step=10))
    assert not saver.due(Totals(step=10)) and not saver.due(Totals(step=19)) and saver.due(Totals(step=20))
    saver, _ = make_saver(*trained(), checkpoint_every="5 seconds")
    assert not saver.due(Totals(step=1))
    now[0] += 5
    assert saver.due(Totals(step=2))


def test_a_disk_that_is_too_slow_is_not_waited_for(make_saver: Make, monkeypatch: Any) -> None:
    import threading

    go, real = threading.Event(), stores.Commit.run

    def slow(self: Any, beat: Any) -> None:
        assert go.wait(10)
        real(self, beat)

    monkeypatch.setattr(stores.Commit, "run", slow)
    saver, _ = make_saver(*trained(), checkpoint_every="1e-9 seconds")
    assert saver.due(Totals(step=1))
    saver.save(Totals(step=1))
    assert not saver.due(Totals(step=2)), "one is on its way"
    go.set()
    saver._store.settle()
    assert saver.due(Totals(step=3))


def test_wrapped_modules_save_under_the_plain_models_names(make_saver: Make, make_model: Make) -> None:
    model, optimizer = trained()
    wrapped = torch.nn.ModuleDict({"_orig_mod": model})  # as torch.compile names it
    saver, context = make_saver(wrapped, optimizer)
    assert saver.save(Totals(step=1), wait=True)
    found = stores.CheckpointStore(context.state, stores.Retention(1), print).open(1)
    assert not isinstance(found, str)
    names = {name for name in found.shapes() if not name.startswith("rank-")}
    keys = ("exp_avg", "exp_avg_sq", "step")
    plain = [name for name, _ in model.named_parameters()]
    assert names == {f"model.{n}" for n in plain} | {f"optimizer.{k}.{n}" for k in keys for n in plain}
    other, its_optimizer = trained(seed=1)
    again, _ = make_saver(other, its_optimizer)
    assert again.restore() is not None
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_state_of_another_shape_is_refused_by_name(make_saver: Make) -> None:
    saver, _ = make_saver(*trained())
    saver.save(Totals(step=1), wait=True)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 5))
    other, context = make_saver(model, torch.optim.SGD(model.parameters()))
    assert other.restore() is None
    assert "has model.1.weight as torch.float32 [2, 4], not torch.float32 [5, 4]" in context.said[0]


def test_a_state_that_is_there_and_not_known_is_refused(make_saver: Make) -> None:
    saver, _ = make_saver(*trained())
    saver.save(Totals(step=1), wait=True)
    model, _ = trained()
    other, context = make_saver(model, torch.optim.SGD(model.parameters()))
    assert other.restore() is None
    assert "holds optimizer.exp_avg.0.bias, which this run does not have" in context.said[0]


def test_an_optimizer_state_that_is_no_tensor_is_one_line(make_saver: Make) -> None:
    model, optimizer = trained()
    optimizer.state[model[0].weight]["count"] = 3  # type: ignore[index]
    saver, _ = make_saver(model, optimizer)
    with pytest.raises(ArrieroError, match=r"'count' of 0\.weight is no tensor"):
        saver.save(Totals(step=1))


def test_back_to_before_a_step(make_saver: Make) -> None:
    model, optimizer = trained()
    saver, context = make_saver(model, optimizer)
    with torch.no_grad():
        for step in (2, 4, 6):
            next(model.parameters()).fill_(step)
            saver.save(Totals(step=step))
    assert saver.restore(before=2) is None
    found = saver.restore(before=6)
    assert found is not None and found.step == 4
    assert next(model.parameters()).eq(4).all()
    assert sorted(path.name[-1] for path in context.state.glob("checkpoint-*")) == ["2", "4"]


def test_the_clock_of_the_background_is_told_apart(make_saver: Make) -> None:
    saver, _ = make_saver(*trained())
    before = saver.cpu_seconds()
    saver.save(Totals(step=1), wait=True)
    assert saver.cpu_seconds() > before


# --------------------------------------------------------------------------------------- in the loop

SETTINGS: dict[str, Any] = {
    "duration": "24 steps", "batch_size": 4, "learning_rate": 1e-2, "checkpoint_every": "5 steps", "precision": "fp32",
}  # fmt: skip


def run(model: Any, objective: Any, context: Any, heldout: Any = None, **settings: Any) -> TrainResult:
    chosen = TrainSettings.model_validate(SETTINGS | settings)
    return train(model, objective, chosen, context, arithmetic=Arithmetic("fp32", 1), heldout=heldout)


def weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_checkpoints_in_the_background_change_no_bit(
    make_model: Make, make_context: Make, rows: list[Row]
) -> None:
    made = []
    for options in (
        {"async_checkpoints": True},
        {"async_checkpoints": False},
        {"checkpoint_every": "9999 steps"},
    ):
        model = make_model(dropout=0.1)
        run(model, SftObjective(rows), make_context(), **options)
        made.append(weights(model))
    assert equal(made[0], made[1]) and equal(made[0], made[2])


def test_the_weights_of_the_lowest_heldout_loss(
    make_model: Make, make_context: Make, rows: list[Row], tmp_path: Path
) -> None:
    """Trained on a few rows until it knows them by heart, the loss on others falls and rises again."""
    objective, heldout = SftObjective(rows[:3]), SftObjective(rows[3:])
    options = {"eval_every": 3, "final_weights": "best", "duration": "40 steps"}
    model, context = make_model(), make_context()
    result = run(model, objective, context, heldout, **options)
    scores = {one["step"]: one["loss"] for one in result.totals.evaluations if one["step"]}
    best = min(scores, key=lambda step: (scores[step], step))
    assert best < 40 and result.weights_step == best and result.heldout is not None
    assert result.heldout["loss"] == scores[best]
    assert (
        context.said[-1] == f"the model has the weights of step {best}, which have the lowest held-out loss"
    )
    scored = evaluate(model, heldout, range(len(heldout)), micro_batch=4, precision="fp32")
    assert scored["loss"] == pytest.approx(scores[best], rel=1e-6)
    stopped = make_context(root=tmp_path / "stopped", stop_at=best + 1)
    resumed = make_model()
    with pytest.raises(Interrupted):
        run(make_model(), objective, stopped, heldout, **options)
    run(resumed, objective, make_context(root=tmp_path / "stopped"), heldout, **options)
    assert equal(weights(resumed), weights(model))
    last = make_model()
    assert (
        run(last, objective, make_context(), heldout, **{**options, "final_weights": "last"}).weights_step
        == 40
    )
    assert not equal(weights(last), weights(model))


def test_the_best_needs_evaluations() -> None:
    for wanted in ({"final_weights": "best"}, {"keep_best": 2}):
        with pytest.raises(ValidationError, match="give eval_every or eval_points"):
            TrainSettings.model_validate(wanted)


def test_permanent_checkpoints_stay_and_their_weights_come_with_the_model(
    make_model: Make, make_context: Make, causal: CausalObjective
) -> None:
    model, context = make_model(), make_context()
    run(model, causal, context, keep_every=8, keep_checkpoints=1)
    kept = [int(path.name[-8:]) for path in sorted(context.state.glob("checkpoint-*"))]
    assert kept == [8, 16, 24]
    files = sorted((context.folder / "checkpoints").iterdir())
    assert [path.name for path in files] == [f"step-{step:08d}.safetensors" for step in kept]
    first, last = load_file(files[0]), load_file(files[-1])
    named = dict(model.named_parameters())
    assert last.keys() == named.keys() and all(torch.equal(last[name], p) for name, p in named.items())
    assert not equal(list(first.values()), list(last.values()))
    early = make_model()
    with pytest.raises(Interrupted):
        run(early, causal, make_context(stop_at=8), keep_every=8)
    assert all(torch.equal(first[name], p) for name, p in early.named_parameters())
