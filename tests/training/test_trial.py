"""Trials: real steps at two depths, what they say of the whole model, and the plan that rests on them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from arriero.cost.device import DeviceProfile, Rate
from arriero.models.decoder_config import DecoderConfig
from arriero.training import plan, trial
from arriero.training.objectives.base import Shape
from arriero.training.objectives.causal import CausalObjective, PlannedWindows
from arriero.training.objectives.dpo import DpoObjective
from arriero.training.plan import Load, plan_training
from arriero.training.traced import Figures, Work
from arriero.training.trial import Trial, collecting, measure, trial_key
from arriero.tuning.adapt import AdaptSettings, adapter_setup

CONFIG = DecoderConfig(
    vocab_size=61, d_model=16, n_layers=5, n_heads=2, n_kv_heads=1, d_ff=32, context_length=12
)
OBJECTIVE = CausalObjective(PlannedWindows(4, 12), 12, document_mask=False)
SHAPES = (Shape(4, 12, 48),)


def work(config: DecoderConfig = CONFIG, objective: Any = OBJECTIVE, **settings: Any) -> Work:
    settings = {"duration": "10 steps", **settings}
    given = AdaptSettings(data=["none"], precision="fp32", threads=1, batch_size=4, **settings)
    return Work(config, objective, given, "fp32", adapter_setup(given, 0))


class Profile:
    """A device profile in which only what a plan without a trace asks for is there."""

    def __init__(self, **rates: Rate) -> None:
        self.rates = rates
        self.process_bytes, self.accelerator = 0, None
        self.rate = rates.get


def fixed_price(monkeypatch: pytest.MonkeyPatch, module: Any, seconds: float) -> None:
    monkeypatch.setattr(module, "step_figures", lambda *args: Figures(seconds, 1.0, 1.0, 1.0))


def test_the_whole_model_lies_on_the_line_through_the_shallow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only steps move: one block takes 3 s, all else 2 s, so five blocks take 17 s."""
    now = 0.0

    def step(work: Work, state: list[Any]) -> None:
        nonlocal now
        now += 2.0 + 3.0 * state[0].config.n_layers

    monkeypatch.setattr(trial, "take_step", step)
    fixed_price(monkeypatch, trial, 8.5)
    rate = measure(Trial(work(), SHAPES, 1), cast(DeviceProfile, None), budget_s=24.0, clock=lambda: now)
    assert rate.per_s == pytest.approx(17 / 8.5)
    assert rate.spread == trial.SPREAD, "equal steps leave the least spread"


@pytest.mark.parametrize(
    ("layers", "budget_s", "depths"), [(5, 30.0, {5}), (12, 24.0, {1, 6}), (12, 15.0, {1, 3}), (5, 29.0, {1, 3})]
)  # fmt: skip
def test_the_deepest_models_whose_steps_go_into_the_time_are_measured(
    layers: int, budget_s: float, depths: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, seen = 0.0, set()

    def step(work: Work, state: list[Any]) -> None:
        nonlocal now
        seen.add(state[0].config.n_layers)
        now += 10.0 * state[0].config.n_layers / layers

    monkeypatch.setattr(trial, "take_step", step)
    fixed_price(monkeypatch, trial, 10.0)
    given = work(CONFIG.model_copy(update={"n_layers": layers}))
    rate = measure(Trial(given, SHAPES, 1), cast(DeviceProfile, None), budget_s=budget_s, clock=lambda: now)
    assert seen == depths
    assert rate.per_s == pytest.approx(1.0)


def test_slow_moments_count_as_they_will_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in four takes three times as long: the mean of the steps is 1.5 s, their median 1 s."""
    now, steps = 0.0, 0

    def step(work: Work, state: list[Any]) -> None:
        nonlocal now, steps
        steps += 1
        now += 3.0 if steps % 4 == 0 else 1.0

    monkeypatch.setattr(trial, "take_step", step)
    fixed_price(monkeypatch, trial, 1.0)
    rate = measure(Trial(work(), SHAPES, 1), cast(DeviceProfile, None), budget_s=599.0, clock=lambda: now)
    assert rate.per_s == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("layers", [1, 3])
def test_shallow_models_are_measured_whole(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []
    monkeypatch.setattr(trial, "take_step", lambda work, state: depths.append(state[0].config.n_layers))
    fixed_price(monkeypatch, trial, 1.0)
    shallow = work(CONFIG.model_copy(update={"n_layers": layers}))
    ticks = iter(range(1000))
    measure(Trial(shallow, SHAPES, 1), cast(DeviceProfile, None), budget_s=0, clock=lambda: next(ticks))
    assert depths == [layers] * (1 + 3), "one to prepare, three that count"


@pytest.mark.parametrize("objective", ["causal", "dpo"])
def test_real_steps_train(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    made = {
        "causal": OBJECTIVE,
        "dpo": DpoObjective([], torch.zeros(0, 2), beta=0.1, label_smoothing=0.0, nll_coef=0.1),
    }
    fixed_price(monkeypatch, trial, 1.0)
    moved = []

    def step(given: Work, state: list[Any]) -> None:
        before = [p.clone() for p in state[0].parameters()]
        take(given, state)
        moved.append(any(not torch.equal(p, q) for p, q in zip(before, state[0].parameters(), strict=True)))

    take = trial.take_step
    monkeypatch.setattr(trial, "take_step", step)
    given = work(objective=made[objective], lora_rank=2 if objective == "causal" else 0)
    rate = measure(Trial(given, SHAPES, 1), cast(DeviceProfile, None), budget_s=0.0)
    assert rate.per_s > 0 and len(moved) == 2 * 4 and all(moved)


def test_another_work_has_another_key() -> None:
    given = [
        work(), work(lora_rank=2), work(lora_rank=4), work(activation_checkpointing="full"), work(optimizer="muon"),
        work(CONFIG.model_copy(update={"n_layers": 6})), work(ema_decay=0.9),
        work(objective=DpoObjective([], cast(Any, None), beta=0.1, label_smoothing=0.0, nll_coef=0.1)),
    ]  # fmt: skip
    keys = [trial_key(one, SHAPES, 1) for one in given]
    keys += [trial_key(given[0], SHAPES, 2), trial_key(given[0], SHAPES * 2, 1)]
    assert len(set(keys)) == len(keys)
    assert trial_key(work(learning_rate=0.5, duration="9 steps"), SHAPES, 1) == keys[0], "these cost nothing"


def test_a_plan_rests_on_the_trial_of_its_own_work(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed_price(monkeypatch, plan, 2.0)
    load = Load(10, [SHAPES])
    with collecting() as found:
        without = plan_training(work(), load, cast(DeviceProfile, Profile()))
        plan_training(work(), load, cast(DeviceProfile, Profile()))
    assert [one.key for one in found] == [trial_key(work(), SHAPES, 1)], "each work is noted once"
    tried = Profile(**{found[0].key: Rate(per_s=3.0, spread=0.07, unit="x")})
    seconds = plan_training(work(), load, cast(DeviceProfile, tried)).seconds
    assert seconds.value == pytest.approx(10 * 2.0 * 3.0 + plan.START_SECONDS)
    assert "measured on real steps of this model" in seconds.source
    assert seconds.high is not None and without.seconds.high is not None
    assert seconds.high / seconds.value < without.seconds.high / (without.seconds.value or 1)
    other = plan_training(work(lora_rank=2), load, cast(DeviceProfile, tried)).seconds
    assert other.value == without.seconds.value


def test_the_start_of_a_run_is_that_of_this_machine() -> None:
    tried = Profile(**{"pretrain.starts": Rate(per_s=0.25, spread=0.5, unit="starts")})
    assert plan.start_seconds(cast(DeviceProfile, tried)) == plan.FIRST_SECONDS + 4.0
    assert plan.start_seconds(cast(DeviceProfile, Profile())) == plan.START_SECONDS
