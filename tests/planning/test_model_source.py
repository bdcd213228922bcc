"""Which model a name means: presets, folders, bare configurations, and clear lines for the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arriero.errors import ArrieroError
from arriero.models.hf_config import config_to_hf
from arriero.models.preset import preset_config
from arriero.planning.estimate.model_source import find_model


def test_a_preset() -> None:
    found = find_model("llama-3-8b")
    assert found.config == preset_config("llama-3-8b") and found.longest == 8192 and found.origin


@pytest.mark.parametrize(
    "name", ["gpt2", "bert-base", "t5-small", "mistral-7b", "bloom-560m", "pythia-70m", "opt-125m"]
)
def test_a_folder_and_its_config_alone_give_the_same(name: str, tmp_path: Path) -> None:
    config = preset_config(name)
    (tmp_path / "config.json").write_text(json.dumps(config_to_hf(config, "bfloat16", {})))
    (tmp_path / "other.json").write_text((tmp_path / "config.json").read_text())
    assert find_model(str(tmp_path)).config == config
    assert find_model(str(tmp_path / "config.json")).config == config
    assert find_model(str(tmp_path / "other.json")).config == config


def test_a_preset_goes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert find_model("gpt2").config == preset_config("gpt2")


def test_lines_for_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"model_type": "zamba", "architectures": ["ZambaForCausalLM"]}')
    (tmp_path / "b.json").write_text("no json")
    (tmp_path / "c.json").write_text("[1]")
    for name, said in (
        ("llama-3-8c", "did you mean 'llama-3-8b'?"),
        ("meta-llama/Llama-3.1-8B", "nothing is downloaded: save that model's config.json"),
        (str(tmp_path / "a.json"), "is a ZambaForCausalLM; Arriero reads the model types"),
        (str(tmp_path / "b.json"), "cannot be read as JSON"),
        (str(tmp_path / "c.json"), "should hold a JSON object"),
        (str(tmp_path), "has no config.json"),
    ):
        with pytest.raises(ArrieroError) as error:
            find_model(name)
        assert said in str(error.value) and "\n" not in str(error.value), name
