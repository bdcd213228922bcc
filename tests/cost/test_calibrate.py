"""Calibrating: everything comes off the clock, the budget holds, probes run while there is time."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import torch

from arriero.artifacts.host import cpu_name, usable_cores, version_facts
from arriero.cost import calibrate as module
from arriero.cost.calibrate import calibrate
from arriero.cost.device import (
    KERNELS,
    PRODUCTS,
    DeviceProfile,
    Rate,
    load_profile,
    measured_with,
    save_profile,
)
from arriero.cost.microbenchmarks import Case, time_round
from arriero.errors import ArrieroError


class FakeClock:
    """Moves on only when a case is called, by what that call costs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def costs(self, seconds: float) -> None:
        self.now += seconds


def test_every_case_gets_its_turn_and_its_share_of_the_time() -> None:
    clock = FakeClock()
    order: list[str] = []

    def call(name: str, cost: float) -> None:
        order.append(name)
        clock.costs(cost)

    cases = {
        "a": Case(lambda: call("a", 0.01), work=100.0),
        "b": Case(lambda: call("b", 0.02), work=100.0, weight=0.5),
    }
    for _ in range(3):
        time_round(cases.values(), 1.0, clock)
    assert cases["a"].per_s == pytest.approx(100 / 0.01)
    assert cases["b"].per_s == pytest.approx(100 / 0.02)
    assert len(cases["a"].seconds) == 3
    assert order.count("a") * 0.01 == pytest.approx(3.0, rel=0.02)
    assert order.count("b") * 0.02 == pytest.approx(1.5, rel=0.05)


def test_a_slow_call_is_made_once_after_its_warm_up() -> None:
    clock = FakeClock()
    slow = Case(lambda: clock.costs(5.0), work=1.0)
    time_round([slow], 1.0, clock)
    assert clock.now == 10.0
    time_round([slow], 1.0, clock)
    assert clock.now == 15.0
    assert slow.seconds == [5.0, 5.0]


def test_the_least_disturbed_round_counts() -> None:
    assert Case(lambda: None, work=2.0, seconds=[0.5, 0.1, 0.3]).per_s == pytest.approx(20.0)


def test_very_short_calls_are_timed_by_the_chunk() -> None:
    clock = FakeClock()
    calls = []
    short = Case(lambda: (calls.append(1), clock.costs(1e-6)), work=1.0)
    time_round([short], 0.1, clock)
    assert short.per_s == pytest.approx(1e6)
    assert len(calls) > 10_000


@pytest.fixture(scope="module")
def measured() -> DeviceProfile:
    """One quick calibration of this machine."""
    before = torch.random.get_rng_state()
    profile = calibrate(
        budget_s=3.0, short=True,
        probes={"a": lambda: {"a.items": Rate(per_s=5.0, spread=0.1, unit="items")}},
    )  # fmt: skip
    assert torch.equal(before, torch.random.get_rng_state())
    return profile


@pytest.mark.alone
@pytest.mark.slow
def test_a_quick_calibration_measures_everything(measured: DeviceProfile) -> None:
    assert (
        {p.dtype for p in measured.matmul} == {p.dtype for p in measured.attention} == {"float32", "bfloat16"}
    )
    assert len({p.kind for p in measured.elementwise}) == 5
    assert len({p.bytes for p in measured.elementwise}) > 3
    assert all(p.flops_per_s > 1e6 for p in measured.matmul)
    assert measured.copy_bytes_per_s > 1e8
    assert 1e-8 < measured.op_seconds < 1e-2
    assert measured.process_bytes > 50e6
    assert measured.rate("a.items") == Rate(per_s=5.0, spread=0.1, unit="items")
    assert measured.stale() is None


@pytest.mark.alone
@pytest.mark.slow
def test_the_profile_survives_the_disk(measured: DeviceProfile, tmp_path) -> None:
    path = save_profile(measured, tmp_path / "device.json")
    assert load_profile(path) == measured
    assert load_profile(tmp_path / "none.json") is None
    path.write_text("{}")
    with pytest.raises(ArrieroError, match="no device profile"):
        load_profile(path)


def test_probes_that_no_time_is_left_for_are_named() -> None:
    clock = FakeClock()

    def slow() -> dict[str, Rate]:
        clock.costs(10.0)
        return {"slow.x": Rate(per_s=1.0, spread=0.1, unit="x")}

    said: list[str] = []
    rates, notes = module._run_probes({"slow": slow, "late": slow}, 5.0, said.append, clock)
    assert list(rates) == ["slow.x"]
    assert said == ["measuring the stage 'slow'"]
    assert "late" in notes[0]
    assert clock.now == 10.0


@pytest.fixture(scope="module")
def some_cases() -> dict[Hashable, Case]:
    return module._cases()


@pytest.mark.parametrize(("budget", "rounds"), [(2.0, 1), (8.0, 2), (100.0, 3)])
def test_more_rounds_are_made_only_while_the_budget_lasts(
    budget: float, rounds: int, some_cases: dict[Hashable, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    cases = dict(some_cases)
    for case in cases.values():
        case.seconds = []
    timed = []

    def one_round(cases: object, slice_s: float, clock_: object) -> None:
        timed.append(slice_s)
        clock.costs(3.0)
        for case in cases:  # type: ignore[attr-defined]
            case.seconds.append(1.0)

    monkeypatch.setattr(module, "_cases", lambda: cases)
    monkeypatch.setattr(module, "time_round", one_round)
    profile = calibrate(budget_s=budget, clock=clock, probes={"a": lambda: (clock.costs(1.0), {})[1]})
    assert len(timed) == rounds
    assert clock.now == 3.0 * rounds + 1.0
    assert all("probes" not in note for note in profile.notes)


def test_disturbances_are_told() -> None:
    assert module._disturbances(0.0, 0.0, 10.0, 0.01) == []
    busy = module._disturbances(3.0, 5.0, 10.0, 0.9)
    assert len(busy) == 3
    assert "3.0" in busy[0] and "5.0 CPU seconds" in busy[1] and "90%" in busy[2]


def test_a_profile_tells_when_it_was_measured_with_something_else(profile: DeviceProfile) -> None:
    here: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "versions": {**version_facts(), **measured_with()},
    }
    assert profile.model_copy(update=here).stale() is None
    for key, value, words in (
        ("torch", "1.0", "with torch 1.0"), (PRODUCTS, "an abacus", "by an abacus"), (KERNELS, "0123", "build 0123"),
        (KERNELS, "none", "no native kernels"),
    ):  # fmt: skip
        other = {**here, "versions": {**here["versions"], key: value}}
        if here["versions"][key] != value:
            assert words in (profile.model_copy(update=other).stale() or "")
    assert (
        "with 1 cores" in (profile.model_copy(update={**here, "cores": 1}).stale() or "")
        or usable_cores() == 1
    )
