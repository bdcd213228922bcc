"""Every published shape has its published count, to the digit."""

from __future__ import annotations

from typing import Any

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
    assert built - sum(_left_out(model, part) for part in preset.without) == preset.parameters


def _left_out(model: Any, part: str) -> int:
    """Parameters of a part; ``bias``: all biases but those of norms."""
    if part != "bias":
        return int(model.parameter_counts()[part])
    biases = {name: tensor.numel() for name, tensor in model.named_parameters() if name.endswith("bias")}
    return sum(count for name, count in biases.items() if "norm" not in name)


@pytest.mark.parametrize(
    ("name", "every_parameter"),
    [
        # 80 layers of 13 d² + 2 d (norms), 4 d + 5 d (projections, feed-forward) and 2 d (u, v), and a last norm of d
        ("gopher-280b", 279_697_162_240 + 80 * 13 * 16384 + 16384),
        ("chinchilla-70b", 70_055_362_560 + 80 * 13 * 8192 + 8192),
        ("palm-540b", 540_354_281_472 + 118 * 18432 + 18432),
        ("glm-130b", 128_685_441_024 + 70 * 2 * 12288 + 12288),
    ],
)
def test_counts_that_leave_parts_out_and_the_whole(name: str, every_parameter: int) -> None:
    assert describe_model(name).total == every_parameter


@pytest.mark.parametrize(
    ("name", "millions"),
    [("44m", "44"), ("117m", "117"), ("417m", "417"), ("1.4b", "14e2"), ("7.1b", "71e2"), ("280b", "280e3")],
)
def test_gophers_sizes_are_those_of_their_names(name: str, millions: str) -> None:
    figures, _, zeros = millions.partition("e")
    count = get_preset(f"gopher-{name}").parameters / 1e6
    assert round(count / 10 ** int(zeros or 0)) == int(figures)


def test_falcon_180b_as_counted_with_its_head_tied() -> None:
    tied = get_preset("falcon-180b").config.model_copy(update={"tie_embeddings": True})
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_model(tied).parameters()) == 178_557_088_768


def test_blocks_of_fluid_gpt() -> None:
    """GPT-2's blocks at the width of its state, 1568, without embeddings (systems of the natural sciences)."""
    shape = {"d_model": 1568, "n_layers": 4, "n_heads": 2, "d_ff": 4 * 1568, "context_length": 4}
    config = get_preset("gpt2").config.model_copy(update={"n_kv_heads": 2, "head_dim": 784, **shape})
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_model(config).blocks.parameters()) == 118_095_488


@pytest.mark.parametrize(
    "name",
    [
        "gpt1",
        "gpt2",
        "llama-3-8b",
        "bloom-560m",
        "falcon-7b",
        "mpt-7b",
        "opt-125m",
        "gopher-44m",
        "codegeex-13b",
    ],
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
