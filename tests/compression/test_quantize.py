from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from arriero.artifacts import Artifact
from arriero.compression.companions import FOLDER_SECONDS
from arriero.compression.quantize import Quantize, QuantizeSettings
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError, Interrupted
from arriero.models.checkpoint import load_model, read_format
from arriero.native.linear import exact_products
from arriero.stage import ModelSpec, get_stage

CASES = [
    {"scheme": "int8"},
    {"scheme": "int8", "dtype": "float32"},
    {"scheme": "int4"},
    {"scheme": "int4", "group_size": 32, "dtype": "float32"},
]


@pytest.mark.parametrize("values", CASES, ids=str)
def test_run_does_what_the_plan_said(
    source: Artifact, device: DeviceProfile, make_context: Callable[[str], Any], values: dict[str, Any]
) -> None:
    stage, settings = get_stage("quantize"), QuantizeSettings(**values)
    plan = stage.plan(settings, {"model": ModelSpec.model_validate(source.manifest.spec)}, device)
    context = make_context("q")
    outcome = stage.run(settings, {"model": source}, context)
    assert outcome.spec == plan.spec
    assert (context.folder / "model.safetensors").stat().st_size == outcome.spec.weight_bytes
    assert read_format(context.folder) == settings.scheme == outcome.spec.format
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (context.folder / name).read_bytes() == source.file(name).read_bytes()
    assert (
        outcome.facts["bytes_after"] < outcome.facts["bytes_before"] == source.manifest.spec["weight_bytes"]
    )
    assert context.reports[-1][0] == context.reports[-1][1]
    ids = torch.randint(0, 203, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), exact_products():
        before, after = load_model(source.path)(ids), load_model(context.folder, dtype="float32")(ids)
    largest = max(outcome.facts["relative_weight_error"].values())
    assert (
        0
        < (after - before).norm() / before.norm()
        < 4 * largest
        < (0.05 if settings.scheme == "int8" else 0.5)
    )


def test_same_input_same_bytes(source: Artifact, make_context: Callable[[str], Any]) -> None:
    first, second = make_context("one"), make_context("two")
    for context in (first, second):
        Quantize().run(QuantizeSettings(scheme="int4"), {"model": source}, context)
    for name in ("model.safetensors", "config.json"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_plan_prices_the_rounded_weights(source: Artifact, device: DeviceProfile) -> None:
    spec = ModelSpec.model_validate(source.manifest.spec)
    estimate = Quantize().plan(QuantizeSettings(), {"model": spec}, device).estimate
    rounded = 3 * (64 * 2 * 6 * 16 + 3 * 64 * 192)
    assert estimate.seconds.value == pytest.approx(FOLDER_SECONDS + rounded / 1e6, rel=0.01)
    assert estimate.peak_memory.value is not None and estimate.peak_memory.value > device.process_bytes
    unknown = Quantize().plan(QuantizeSettings(), {"model": spec}, device.model_copy(update={"rates": {}}))
    assert not unknown.estimate.seconds.known


def test_group_that_does_not_fit_is_refused_by_plan_and_run(
    source: Artifact, device: DeviceProfile, make_context: Callable[[str], Any]
) -> None:
    settings = QuantizeSettings(scheme="int4", group_size=128)
    message = r"group_size 128 does not divide the 64 inputs of blocks\.0\.attention\.q_proj; 64 does"
    with pytest.raises(ArrieroError, match=message):
        Quantize().plan(settings, {"model": ModelSpec.model_validate(source.manifest.spec)}, device)
    with pytest.raises(ArrieroError, match=message):
        Quantize().run(settings, {"model": source}, make_context("q"))


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="leave group_size out or use scheme int4"):
        QuantizeSettings(scheme="int8", group_size=64)


def test_twice_is_refused(source: Artifact, device: DeviceProfile) -> None:
    spec = ModelSpec.model_validate({**source.manifest.spec, "format": "int8"})
    with pytest.raises(ArrieroError, match="int8 already; take the model that it was made from"):
        Quantize().plan(QuantizeSettings(), {"model": spec}, device)


def test_stops_when_asked(source: Artifact, make_context: Callable[[str], Any]) -> None:
    context = make_context("q")
    context.stop_after = 4
    with pytest.raises(Interrupted):
        Quantize().run(QuantizeSettings(), {"model": source}, context)
    assert len(context.reports) == 4 and not (context.folder / "model.safetensors").exists()


def test_probe_measures_the_rate_that_the_plan_uses() -> None:
    (name,) = rates = Quantize().probe()
    assert name == "quantize.params_per_s" and rates[name].per_s > 1e4
