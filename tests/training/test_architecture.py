from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from arriero.models.checkpoint import build_model
from arriero.models.families import FAMILIES, get_family
from arriero.training.pretrain import PretrainSettings

CAUSAL = ("llama", "gpt1", "gpt2", "mistral", "qwen2", "gopher", "codegeex", "lstm", "rnn", "feedforward")


def test_nothing_said_is_the_llama_of_old() -> None:
    config = PretrainSettings().config(512)
    assert config.model_dump(include={
        "family", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "context_length", "rope_theta",
        "tie_embeddings", "norm_eps", "norm", "positions", "gated", "init_std", "dropout",
    }) == {
        "family": "llama", "d_model": 256, "n_layers": 6, "n_heads": 4, "n_kv_heads": 2, "head_dim": 64, "d_ff": 672,
        "context_length": 256, "rope_theta": 500000.0, "tie_embeddings": True, "norm_eps": 1e-5, "norm": "rms",
        "positions": "rotary", "gated": True, "init_std": 0.02, "dropout": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("family", CAUSAL)
def test_every_family_has_a_usual_shape_that_can_be_built(family: str) -> None:
    import torch

    config = PretrainSettings(family=family).config(300)
    with torch.device("meta"):
        model = build_model(config)
    assert sum(model.parameter_counts().values()) == sum(p.numel() for p in model.parameters())
    assert config.family == family


def test_a_gpt2_is_a_gpt2() -> None:
    config: Any = PretrainSettings(family="gpt2", d_model=64, n_heads=2, dropout=0.1).config(300)
    assert (config.norm, config.positions, config.activation, config.gated) == (
        "layer",
        "learned",
        "gelu_tanh",
        False,
    )
    assert (config.d_ff, config.n_kv_heads, config.dropout, config.qkv_bias) == (256, 2, 0.1, True)


def test_small_nets_take_their_own_settings() -> None:
    lstm: Any = PretrainSettings(
        family="lstm", d_model=320, d_embedding=64, tie_embeddings=False, context_length=128
    )
    config = lstm.config(84)
    assert sum(config.parameter_counts().values()) == 526_420
    assert lstm.window_length(config) == 128 and lstm.streams(config)
    assert not PretrainSettings(family="lstm", stream=False).streams(config)
    net: Any = PretrainSettings(
        family="feedforward", d_model=384, window=5, direct=False, d_embedding=8
    ).config(84)
    assert (net.window, net.direct, net.d_embedding, net.d_model) == (5, False, 8, 384)
    assert not PretrainSettings(family="feedforward").streams(net)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"family": "lstm", "n_heads": 4}, "n_heads: a model of the family lstm has no such setting"),
        ({"family": "feedforward", "n_layers": 2}, "n_layers: a model of the family feedforward has no such"),
        ({"family": "llama", "window": 4}, "window: a model of the family llama has no such setting"),
        ({"family": "llama", "dropout": 0.1}, "dropout: a model of the family llama has no such setting"),
        ({"family": "gpt2", "rope_theta": 5e5}, "rope_theta: a model of the family gpt2 has no such setting"),
        (
            {"family": "gpt1", "tie_embeddings": True},
            "tie_embeddings: a model of the family gpt1 has no such",
        ),
        ({"family": "gpt2", "n_kv_heads": 2}, "as many key heads as query heads"),
        ({"family": "gpt1", "d_ff": 100}, "four times as wide"),
        ({"family": "transformer"}, "a transformer does not"),
        ({"family": "lsmt"}, "did you mean 'lstm'"),
        ({"stream": True}, "llama carries no state"),
        ({"d_model": 36}, "must be even"),
    ],
)
def test_what_a_family_does_not_read_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PretrainSettings.model_validate(settings)


def test_settings_that_were_written_down_read_as_themselves() -> None:
    for family in CAUSAL:
        settings = PretrainSettings(family=family)
        assert PretrainSettings.model_validate(settings.model_dump()) == settings


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; from arriero.training.pretrain import PretrainSettings as S; S(family='lstm'); S(family='gpt2');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_families_are_those_of_the_models_room() -> None:
    assert set(CAUSAL) <= set(FAMILIES)
    assert all(get_family(name).config.model_fields["family"] for name in CAUSAL)


def test_a_preset_gives_the_shape_and_settings_change_it() -> None:
    published: Any = PretrainSettings(preset="gpt2").config(50257)
    assert sum(published.parameter_counts().values()) == 124_439_808
    assert PretrainSettings(preset="gpt2").window_length(published) == 1024
    smaller: Any = PretrainSettings(
        preset="gpt2", d_model=48, n_heads=3, n_layers=2, context_length=64
    ).config(300)
    assert (smaller.head_dim, smaller.n_kv_heads, smaller.context_length) == (16, 3, 64)
    assert PretrainSettings(preset="llama-3.2-1b", n_layers=2).config(300).family == "llama"
    assert sum(PretrainSettings(preset="lstm-320").config(84).parameter_counts().values()) == 526_420
    with pytest.raises(ValidationError, match=r"no preset.*gpt22"):
        PretrainSettings(preset="gpt22")
    with pytest.raises(ValidationError, match="preset gpt2 is of the family gpt2, not lstm"):
        PretrainSettings(preset="gpt2", family="lstm")
