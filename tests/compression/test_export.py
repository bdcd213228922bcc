from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from arriero.artifacts import Artifact
from arriero.compression.export import Export, ExportSettings
from arriero.compression.quantize import Quantize, QuantizeSettings
from arriero.cost.device import DeviceProfile
from arriero.errors import ArrieroError
from arriero.models.checkpoint import load_model, read_format
from arriero.native.linear import exact_products
from arriero.stage import ModelSpec, get_stage

LOGIT_IDS = torch.randint(0, 203, (2, 30), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", ["keep", "float32", "bfloat16", "float16"])
def test_folder_is_whole_and_as_planned(
    source: Artifact, device: DeviceProfile, make_context: Callable[[str], Any], dtype: str
) -> None:
    stage, settings, context = get_stage("export"), ExportSettings(dtype=dtype), make_context("out")
    plan = stage.plan(settings, {"model": ModelSpec.model_validate(source.manifest.spec)}, device)
    outcome = stage.run(settings, {"model": source}, context)
    assert outcome.spec == plan.spec
    assert plan.estimate.flops.value == context.flops > 0
    assert plan.estimate.seconds.known and plan.estimate.peak_memory.known
    assert sorted(path.name for path in context.folder.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    generation = json.loads((context.folder / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 0, "eos_token_id": [1, 2], "pad_token_id": 3}
    with torch.no_grad():
        before, after = (
            load_model(source.path)(LOGIT_IDS),
            load_model(context.folder, dtype="float32")(LOGIT_IDS),
        )
    if dtype in ("keep", "float32"):
        assert torch.equal(before, after) and outcome.facts["largest_logit_change"] == 0
    else:
        assert 0 < outcome.facts["largest_logit_change"] < 0.05


@pytest.mark.parametrize("dtype", ["keep", "float32"])
def test_quantised_input(
    source: Artifact,
    device: DeviceProfile,
    make_context: Callable[[str], Any],
    commit: Callable[..., Artifact],
    dtype: str,
) -> None:
    context, out = make_context("q"), make_context("out")
    made = Quantize().run(QuantizeSettings(scheme="int4"), {"model": source}, context)
    quantised = commit(context, made.spec, source, "quantize")
    settings = ExportSettings(dtype=dtype)
    plan = Export().plan(settings, {"model": made.spec}, device)
    outcome = Export().run(settings, {"model": quantised}, out)
    assert outcome.spec == plan.spec
    assert read_format(out.folder) == ("int4" if dtype == "keep" else "float32")
    with torch.no_grad(), exact_products():
        before, after = (load_model(f, dtype="float32")(LOGIT_IDS) for f in (quantised.path, out.folder))
    assert (before - after).abs().max() <= 1e-5 * before.abs().max()
    card = (out.folder / "README.md").read_text()
    assert "CC-BY-4.0" in card, "licences come from the whole lineage"
    assert ("compressed-tensors" in card) == (dtype == "keep")


def test_model_card(source: Artifact, make_context: Callable[[str], Any]) -> None:
    context = make_context("out")
    outcome = Export().run(ExportSettings(), {"model": source}, context)
    card = (context.folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"| parameters | {outcome.spec.n_parameters:,} |" in card
    assert "| CC-BY-4.0 | stories \\| of old | https://example.org/by |" in card
    assert "| Public domain | novels |  |" in card
    assert "novels.txt | 123,456 | abababababab" in card and "private" not in card
    assert "- base: pretrain `kbase`" in card and "  - texts: curate `ktexts`" in card
    assert outcome.facts["licences"] == ["CC-BY-4.0", "Public domain"]


def test_wrong_folder_is_noticed(
    source: Artifact, make_context: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from arriero.models import checkpoint

    honest = checkpoint.save_model

    def faulty(model: Any, folder: Path, *arguments: Any, **ids: Any) -> None:
        honest(model, folder, *arguments, **ids)
        tensors = load_file(folder / "model.safetensors")
        tensors["model.norm.weight"][5] *= 1.01
        save_file(tensors, folder / "model.safetensors")

    monkeypatch.setattr(checkpoint, "save_model", faulty)
    with pytest.raises(ArrieroError, match="gives other logits than its source"):
        Export().run(ExportSettings(), {"model": source}, make_context("out"))


def test_overflow_in_half_precision_is_noticed(source: Artifact, make_context: Callable[[str], Any]) -> None:
    path = source.path / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(tensors, path)
    with pytest.raises(ArrieroError, match="other logits than its source"):
        Export().run(ExportSettings(dtype="float16"), {"model": source}, make_context("out"))


def test_probe_measures_the_rate_that_the_plan_uses() -> None:
    (name,) = rates = Export().probe()
    assert name == "export.bytes_per_s" and rates[name].per_s > 1e4
