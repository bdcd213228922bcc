"""The profile that a plan uses: measured where there is none, filled up where it lacks rates, and not measured twice."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.cost.device import SKIPPED, DeviceProfile, Rate, load_profile, profile_path, save_profile
from arriero.errors import ArrieroError
from arriero.recipe import calibration

FULL = {"a": ("a.items",), "b": ("b.items", "b.bytes"), "none": ()}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three stages, of which one has nothing to measure; gives what is measured, in order."""
    measured: list[str] = []

    def probe(kind: str) -> Any:
        def run() -> dict[str, Rate]:
            measured.append(kind)
            return {name: Rate(per_s=2.0, spread=0.1, unit="items") for name in FULL[kind]}

        return run

    monkeypatch.setattr(calibration, "stage_modules", lambda: dict.fromkeys(FULL, ""))
    monkeypatch.setattr(calibration, "stage_probes", lambda: {kind: probe(kind) for kind in FULL})
    monkeypatch.setattr(
        calibration, "_measured",
        lambda profile, kind: not FULL[kind] or any(name.startswith(f"{kind}.") for name in profile.rates),
    )  # fmt: skip
    return measured


def store(profile: DeviceProfile, **rates: float) -> DeviceProfile:
    found = {
        name.replace("_", "."): Rate(per_s=value, spread=0.1, unit="items") for name, value in rates.items()
    }
    notes = [f"{SKIPPED}: a, b; calibrate with more seconds", "the machine was busy"]
    profile = profile.model_copy(update={"rates": found, "notes": notes})
    save_profile(profile)
    return profile


@pytest.fixture
def profile(toy_stages: None) -> DeviceProfile:
    """A made-up one of this machine, kept on disk and then removed."""
    found = load_profile()
    assert found is not None
    profile_path().unlink()
    return found


def test_only_what_is_missing_is_measured_and_what_was_there_stays(
    profile: DeviceProfile, stages: list[str]
) -> None:
    store(profile, a_items=7.0)
    found, path = calibration.calibrate_missing(say=lambda line: None)
    assert stages == ["b"] and path.exists()
    assert {name: rate.per_s for name, rate in found.rates.items()} == {
        "a.items": 7.0,
        "b.items": 2.0,
        "b.bytes": 2.0,
    }
    assert found.notes == ["the machine was busy"]
    assert load_profile() == found
    assert calibration.missing_rates(found) == []


def test_a_slow_machine_is_measured_once(
    profile: DeviceProfile, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short calibration that had no time for all rates is filled up, not made again each time."""
    asked: list[str] = []

    def aside(how: str, say: Any) -> DeviceProfile:
        asked.append(how)
        if how == "--short":
            return store(profile, a_items=7.0)
        return calibration.calibrate_missing(say=say)[0]

    monkeypatch.setattr(calibration, "_calibrate_aside", aside)
    said: list[str] = []
    first = calibration.usable_profile(said.append)
    assert asked == ["--short", "--missing"] and calibration.usable_profile(said.append) == first
    assert asked == ["--short", "--missing"] and stages == ["b"]
    assert "lacks the rates of b" in said[1]


def test_nothing_can_be_missing_of_no_profile(profile: DeviceProfile, stages: list[str]) -> None:
    with pytest.raises(ArrieroError, match="never calibrated"):
        calibration.calibrate_missing(say=lambda line: None)
