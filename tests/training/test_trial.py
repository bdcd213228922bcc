"""Trials: real steps at two depths, what they say of the whole model, and the plan that rests on them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from arriero.cost.device import DeviceProfile, Rate
from arriero.models.decoder_config import DecoderConfig
from arriero.training import plan, start, trial
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


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host takes anything while a test goes by a clock of its own."""
    monkeypatch.setattr(trial, "steal_seconds", lambda: 0.0)
    monkeypatch.setattr(trial, "steal_share", lambda: 0.0)


class Profile:
    """A device profile in which only what a plan without a trace asks for is there."""

    def __init__(self, **rates: Rate) -> None:
        self.rates = rates
        self.process_bytes, self.accelerator = 0, None
        self.rate = rates.get


def ratio(given: Trial, **more: Any) -> Rate:
    """The ratio that a trial finds; a clock of one's own moves neither while weights are drawn nor in traces."""
    found = measure(given, cast(DeviceProfile, None), **more)
    return found[given.key]


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
    rate = ratio(Trial(work(), SHAPES, 1), budget_s=24.0, clock=lambda: now)
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
    rate = ratio(Trial(given, SHAPES, 1), budget_s=budget_s, clock=lambda: now)
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
    rate = ratio(Trial(work(), SHAPES, 1), budget_s=599.0, clock=lambda: now)
    assert rate.per_s == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("layers", [1, 3])
def test_shallow_models_are_measured_whole(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []
    monkeypatch.setattr(trial, "take_step", lambda work, state: depths.append(state[0].config.n_layers))
    fixed_price(monkeypatch, trial, 1.0)
    shallow = work(CONFIG.model_copy(update={"n_layers": layers}))
    ticks = iter(range(1000))
    ratio(Trial(shallow, SHAPES, 1), budget_s=0, clock=lambda: next(ticks))
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
    rate = ratio(Trial(given, SHAPES, 1), budget_s=0.0)
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
    assert seconds.value == pytest.approx(10 * 2.0 * 3.0 + start.START_SECONDS)
    assert "measured on real steps of this model" in seconds.source
    assert seconds.high is not None and without.seconds.high is not None
    assert seconds.high / seconds.value < without.seconds.high / (without.seconds.value or 1)
    other = plan_training(work(lora_rank=2), load, cast(DeviceProfile, tried)).seconds
    assert other.value == without.seconds.value


def test_the_start_is_that_of_the_whole_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes 1 s a block, traces 7 s, and a first step 4 s more than another: 5 + 7 + 4 s for five blocks."""
    now, taken = 0.0, set()

    def step(work: Work, state: list[Any]) -> None:
        nonlocal now
        depth = state[0].config.n_layers
        now += 2.0 * depth + (0.0 if depth in taken else 4.0)
        taken.add(depth)

    def make(work: Work, config: DecoderConfig, shapes: Any) -> list[Any]:
        nonlocal now
        now += config.n_layers
        return made(work, config, shapes)

    made = trial.step_state
    monkeypatch.setattr(trial, "take_step", step)
    monkeypatch.setattr(trial, "step_state", make)
    monkeypatch.setattr(trial, "counting_seconds", lambda work, shape, clock: 7.0)
    fixed_price(monkeypatch, trial, 10.0)
    given = Trial(work(), SHAPES, 1)
    found = measure(given, cast(DeviceProfile, None), budget_s=0.0, clock=lambda: now)
    assert taken == set(trial.DEPTHS)
    tried = cast(DeviceProfile, Profile(**found))
    assert start.start_seconds(tried, given.key) == pytest.approx(start.OTHER_SECONDS + 5 + 7 + 4)
    fixed_price(monkeypatch, plan, 10.0)
    seconds = plan_training(work(), Load(10, [SHAPES]), tried).seconds
    assert seconds.value == pytest.approx(10 * 10.0 + start.OTHER_SECONDS + 16), "the plan begins with it"


def test_what_the_host_took_is_left_out_and_what_it_usually_takes_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Steps of 1 s, a fifth more of it taken by the host; since boot a twentieth of each core: 1.2 and 1 / (1 - 2 / 20)."""
    now = taken = 0.0

    def step(work: Work, state: list[Any]) -> None:
        nonlocal now, taken
        now, taken = now + 1.0, taken + 0.2

    monkeypatch.setattr(trial, "take_step", step)
    monkeypatch.setattr(trial, "steal_seconds", lambda: taken)
    monkeypatch.setattr(trial, "steal_share", lambda: 0.05)
    fixed_price(monkeypatch, trial, 1.0)
    rate = ratio(Trial(work(), SHAPES, 2), budget_s=20.0, clock=lambda: now)
    assert rate.per_s == pytest.approx((1.2 + 1 / 0.9) / 2)
    assert rate.spread == pytest.approx(trial.SPREAD + 0.2), (
        "as far off as the host takes nothing, or twice that"
    )


def test_counting_takes_the_traces_of_a_batch_and_of_the_update() -> None:
    ticks = iter([10.0, 12.5])
    assert start.counting_seconds(work(optimizer="muon"), SHAPES[0], lambda: next(ticks)) == 2.5


def test_the_start_of_a_run_is_that_of_this_machine() -> None:
    tried = Profile(**{"pretrain.starts": Rate(per_s=0.25, spread=0.5, unit="starts")})
    assert start.start_seconds(cast(DeviceProfile, tried)) == start.FIRST_SECONDS + 4.0
    assert start.start_seconds(cast(DeviceProfile, tried), "another") == start.FIRST_SECONDS + 4.0
    assert start.start_seconds(cast(DeviceProfile, Profile())) == start.START_SECONDS
    assert start.starts(0.0).per_s > 0, "a clock too coarse to see it"
