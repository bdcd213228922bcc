"""Learning from one's own runs: a bias goes away, the band narrows, and nothing is learnt from a foreign machine."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.cost import Estimate, Quantity
from arriero.cost.device import DeviceProfile
from arriero.cost.ledger import Ledger
from arriero.cost.ledger_corrections import (
    Correction,
    Corrections,
    Point,
    fingerprint,
    learn,
    load_corrections,
)
from arriero.cost.ledger_refit import points_of
from arriero.cost.meter import Measurement
from arriero.cost.tariffs import Tariffs, price
from arriero.errors import ArrieroError

BIAS = 1.3
"""Predictions are 30 % over what it takes."""


def raw(seconds: float = 13.0, memory: float = 2e9) -> Estimate:
    return Estimate(
        seconds=Quantity.band(seconds, 0.3, "s", "modelled", "roofline"),
        peak_memory=Quantity.band(memory, 0.1, "B", "modelled"),
    )


def took(
    seconds: float, memory: float = 2e9, joules: float | None = None, *, segments: int = 1, disturbed: bool = False
) -> Measurement:  # fmt: skip
    sheet = Estimate(
        seconds=Quantity.exact(seconds, "s", "measured"),
        peak_memory=Quantity.exact(memory, "B", "measured"),
        energy=Quantity.exact(joules, "J", "measured") if joules else Quantity.unknown("J"),
    )
    return Measurement(
        estimate=sheet, cpu_seconds=seconds, steal_seconds=0.0, segments=segments,
        assumed_share=0.0 if joules else None, disturbances=["somebody else was at work"] if disturbed else [],
    )  # fmt: skip


def write(
    ledger: Ledger, profile: DeviceProfile, runs: list[tuple[Estimate, Measurement]], corrections: Corrections | None = None,
    kind: str = "pretrain", day: int = 1,
) -> None:  # fmt: skip
    """A ledger as `arriero run` writes it, one plan and one stage a run."""
    for number, (predicted, measured) in enumerate(runs):
        at = f"2026-11-{day:02d}T00:{number:02d}:00"
        ledger.append({"type": "plan", "at": at, "device": fingerprint(profile)})
        ledger.append(
            {
                "type": "stage", "name": "base", "kind": kind, "key": "k", "reused": False, "at": at,
                "predicted": predicted.model_dump(mode="json"), "measured": measured.model_dump(mode="json"),
                "corrected": corrections.factors(kind) if corrections else {},
            }
        )  # fmt: skip


def biased(count: int, seed: int = 0) -> list[tuple[Estimate, Measurement]]:
    chance = random.Random(seed)
    truths = [chance.uniform(5, 50) for _ in range(count)]
    return [(raw(truth * BIAS), took(truth * math.exp(chance.gauss(0, 0.04)))) for truth in truths]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run" / "ledger.jsonl")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "home" / "corrections.json"


def test_after_a_refit_the_bias_is_gone_and_the_band_is_narrower(
    ledger: Ledger, store: Path, profile: DeviceProfile
) -> None:
    write(ledger, profile, biased(12))
    learning = points_of([ledger], profile)
    found, new = learn(profile, learning.points, store)
    assert new == 24 and learning.foreign == 0
    assert found == load_corrections(profile, store)
    before, after = raw(10 * BIAS).seconds, found.applied("pretrain", raw(10 * BIAS)).seconds
    assert abs(after.value / 10 - 1) < 0.04 < abs(before.value / 10 - 1)
    assert after.low < 10 < after.high
    assert math.log(after.high / after.low) < 0.6 * math.log(before.high / before.low)
    assert "12 own runs of 'pretrain' here" in after.source and after.source.startswith("roofline; × 0.7")
    assert found.applied("pretrain", raw()).peak_memory.value == pytest.approx(2e9)


def test_the_corrected_plan_is_priced_and_another_kind_is_left_alone(
    ledger: Ledger, store: Path, profile: DeviceProfile
) -> None:
    write(ledger, profile, biased(12))
    found, _ = learn(profile, points_of([ledger], profile).points, store)
    tariffs = Tariffs.load()
    plain, corrected = price(raw(), profile, tariffs), price(raw(), profile, tariffs, "pretrain", found)
    assert corrected.money.value == pytest.approx(plain.money.value / BIAS, rel=0.04)
    assert corrected.energy.value == pytest.approx(plain.energy.value / BIAS, rel=0.04)
    assert price(raw(), profile, tariffs, "sft", found) == plain


def test_the_same_runs_teach_once_and_corrected_runs_teach_the_rest(
    ledger: Ledger, store: Path, profile: DeviceProfile, tmp_path: Path
) -> None:
    write(ledger, profile, biased(12))
    points = points_of([ledger], profile).points
    first, _ = learn(profile, points, store)
    again, new = learn(profile, points, store)
    assert new == 0 and again == first
    later = Ledger(tmp_path / "later" / "ledger.jsonl")
    runs = [(first.applied("pretrain", predicted), measured) for predicted, measured in biased(12, seed=7)]
    write(later, profile, runs, first, day=2)
    second, new = learn(profile, points_of([later], profile).points, store)
    assert new == 24
    correction = second.of("pretrain", "seconds")
    assert correction is not None and correction.runs == 24
    assert correction.factor == pytest.approx(1 / BIAS, rel=0.03), "not corrected twice, nor back again"


def test_the_old_runs_may_be_gone(
    ledger: Ledger, store: Path, profile: DeviceProfile, tmp_path: Path
) -> None:
    write(ledger, profile, biased(12))
    learn(profile, points_of([ledger], profile).points, store)
    empty = Ledger(tmp_path / "other" / "ledger.jsonl")
    found, new = learn(profile, points_of([empty], profile).points, store)
    assert new == 0 and found.of("pretrain", "seconds") is not None


@pytest.mark.parametrize(
    "change",
    [{"cpu": "Other CPU"}, {"threads": 2}, {"accelerator": "NVIDIA H200", "device": "cuda"}, {"versions": {"torch": "2.11.0"}},
     {"measured_at": "2026-06-01T00:00:00+00:00"}],
)  # fmt: skip
def test_what_another_machine_or_profile_learnt_is_never_used(
    ledger: Ledger, store: Path, profile: DeviceProfile, change: dict[str, Any]
) -> None:
    write(ledger, profile, biased(12))
    other = profile.model_copy(update=change)
    learning = points_of([ledger], other)
    assert learning.points == [] and learning.foreign == 12
    learn(profile, points_of([ledger], profile).points, store)
    assert load_corrections(other, store) == Corrections()
    learn(other, [], store)
    assert load_corrections(profile, store).of("pretrain", "seconds") is not None, "and both are kept apart"
    assert load_corrections(other, store) == Corrections()


def test_a_plan_without_a_fingerprint_is_known_by_its_stored_profile(
    ledger: Ledger, profile: DeviceProfile
) -> None:
    (predicted, measured), *_ = biased(1)
    file = ledger.path.parent / "plans" / "plan-1.json"
    file.parent.mkdir(parents=True)
    file.write_text(f'{{"device": {profile.model_dump_json()}}}')
    from arriero.artifacts.hashing import sha256_file

    ledger.append({"type": "plan", "at": "1", "file": "plans/plan-1.json", "sha256": sha256_file(file)})
    ledger.append(
        {"type": "stage", "name": "base", "kind": "pretrain", "at": "2", "predicted": predicted.model_dump(mode="json"),
         "measured": measured.model_dump(mode="json")}
    )  # fmt: skip
    assert len(points_of([ledger], profile).points) == 2
    assert points_of([ledger], profile.model_copy(update={"cores": 1})).foreign == 1


def test_disturbed_and_resumed_runs_do_not_spoil_the_seconds(
    ledger: Ledger, store: Path, profile: DeviceProfile
) -> None:
    runs = biased(6)
    runs += [(raw(13), took(100, disturbed=True)) for _ in range(20)]
    runs += [(raw(13), took(300, segments=4)) for _ in range(20)]
    write(ledger, profile, runs)
    found, _ = learn(profile, points_of([ledger], profile).points, store)
    seconds = found.of("pretrain", "seconds")
    assert seconds is not None and seconds.runs == 6
    assert seconds.factor == pytest.approx(1 / BIAS, rel=0.06)
    memory = found.of("pretrain", "peak_memory")
    assert memory is not None and memory.runs == 46, (
        "what a run holds in memory does not depend on its neighbours"
    )


def test_on_a_machine_that_is_always_busy_the_busy_runs_count(
    ledger: Ledger, store: Path, profile: DeviceProfile
) -> None:
    write(ledger, profile, [(raw(10), took(20, disturbed=True)) for _ in range(9)])
    found, _ = learn(profile, points_of([ledger], profile).points, store)
    assert found.factors("pretrain")["seconds"] == pytest.approx(2**0.9)


def test_power_is_learnt_where_a_counter_showed_it_and_not_twice_with_the_time(
    ledger: Ledger, store: Path, profile: DeviceProfile
) -> None:
    tariffs = Tariffs.load()
    predicted = price(raw(10 * BIAS), profile, tariffs)
    watts = (predicted.energy.value or 0) / (predicted.seconds.value or 1)
    write(ledger, profile, [(predicted, took(10.0, joules=10 * watts * 2)) for _ in range(15)])
    write(ledger, profile, [(predicted, took(10.0)) for _ in range(2)], day=2)
    found, _ = learn(profile, points_of([ledger], profile).points, store)
    power = found.of("pretrain", "power")
    assert power is not None and power.runs == 15
    corrected = price(raw(10 * BIAS), profile, tariffs, "pretrain", found)
    assert corrected.energy.value == pytest.approx(10 * watts * 2, rel=0.1)


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=60),
    st.floats(0, 1),
    st.floats(0.1, 1e6),
)
def test_any_history_gives_a_band_around_its_value(ratios: list[float], spread: float, value: float) -> None:
    points = [
        Point(id=str(i), at=f"{i:03}", kind="x", quantity="seconds", log_ratio=ratio)
        for i, ratio in enumerate(ratios)
    ]
    correction = Correction.fit("x", points)
    found = correction.applied(Quantity.band(value, spread, "s", "modelled"))
    assert found.low is not None and found.value is not None and found.high is not None
    assert 0 < found.low <= found.value <= found.high
    shrunk = correction.trust * correction.median
    assert abs(math.log(found.value / value) - shrunk) < 1e-6
    assert abs(shrunk) <= max(map(abs, ratios))


def test_one_run_is_believed_by_half_and_widens_the_band_by_the_rest() -> None:
    one = Correction.fit("x", [Point(id="1", at="1", kind="x", quantity="seconds", log_ratio=math.log(2))])
    found = one.applied(Quantity.band(10, 0.2, "s", "modelled"))
    assert found.value == pytest.approx(10 * math.sqrt(2))
    assert found.low <= 10.5 and found.high >= 19.5


def test_scattered_runs_widen_the_band() -> None:
    points = [
        Point(id=str(i), at=str(i), kind="x", quantity="seconds", log_ratio=(-1) ** i * 0.5)
        for i in range(20)
    ]
    found = Correction.fit("x", points).applied(Quantity.band(10, 0.1, "s", "modelled"))
    assert found.high / found.low > 2


def test_an_unknown_or_empty_quantity_stays_as_it_is() -> None:
    one = Correction.fit("x", [Point(id="1", at="1", kind="x", quantity="seconds", log_ratio=0.3)])
    for quantity in (Quantity.unknown("s"), Quantity.exact(0.0, "s", "modelled")):
        assert one.applied(quantity) == quantity


def test_a_spoilt_store_is_one_clear_line(store: Path, profile: DeviceProfile) -> None:
    store.parent.mkdir(parents=True)
    store.write_text("{")
    with pytest.raises(ArrieroError, match="holds no corrections"):
        load_corrections(profile, store)
