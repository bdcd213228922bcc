"""Every published shape has its published count, to the digit."""

from __future__ import annotations

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model
from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import FAMILIES, family_of, get_family
from arriero.models.parts import count_by_part
from arriero.models.preset import Preset, get_preset, presets
from arriero.models.shape import describe_model


@pytest.mark.parametrize("preset", presets().values(), ids=presets().keys())
def test_parameters_to_the_digit(preset: Preset) -> None:
    with torch.device("meta"):
        model = build_model(preset.config)
    built = sum(parameter.numel() for parameter in model.parameters())
    by_part = model.parameter_counts()
    assert sum(by_part.values()) == built
    assert built - sum(by_part[part] for part in preset.without) == preset.parameters


@pytest.mark.parametrize(
    "name", ["gpt1", "gpt2", "llama-3-8b", "bloom-560m", "falcon-7b", "mpt-7b", "opt-125m"]
)
def test_the_closed_form_counts_what_is_there(name: str) -> None:
    config = get_preset(name).config
    assert isinstance(config, DecoderConfig)
    with torch.device("meta"):
        counted = count_by_part(build_model(config))
    assert counted == {part: count for part, count in config.parameter_counts().items() if count}


@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("llama-7b", 524_288), ("llama-65b", 2_621_440), ("llama-2-70b", 327_680), ("llama-3-8b", 131_072),
        ("llama-3-70b", 327_680), ("llama-3.1-405b", 516_096), ("gpt3-175b", 4_718_592),
    ],
)  # fmt: skip
def test_cache_bytes_a_token(name: str, kv_bytes: int) -> None:
    assert describe_model(name).kv_bytes_per_token == kv_bytes


def test_work_a_token_of_llama_3_8b() -> None:
    shape = describe_model("llama-3-8b")
    matrices = shape.total - shape.parameters["embedding"] - shape.parameters["norm"]
    attention = 4 * 32 * 4096 * shape.length * 0.5  # layers, width of all heads, causal half
    assert shape.forward_flops_per_token == pytest.approx(2 * matrices + attention, rel=1e-3)


def test_unknown_names() -> None:
    with pytest.raises(ArrieroError, match="did you mean 'llama-3-8b'"):
        get_preset("lama-3-8b")
    with pytest.raises(ArrieroError, match="no family is called 'gtp2'; did you mean 'gpt2'"):
        get_family("gtp2")


@pytest.mark.parametrize("name", FAMILIES)
def test_tables_of_families_agree(name: str) -> None:
    family = get_family(name)
    assert family.name == name and family.model_type == FAMILIES[name] and family.cite
    assert family_of({"model_type": family.model_type}, "here") is family
    known = set(family.config.model_fields)
    for table in (family.keys, family.defaults, family.fixed):
        assert set(table) <= known
