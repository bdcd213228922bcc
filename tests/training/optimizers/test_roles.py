from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from arriero.errors import ArrieroError
from arriero.models.checkpoint import build_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import FAMILIES
from arriero.models.preset import preset_config, presets
from arriero.training.optimizers.make import make_optimizer
from arriero.training.optimizers.roles import parameter_roles, role_groups, set_learning_rate
from arriero.training.pretrain import PretrainSettings
from arriero.training.settings import TrainSettings
from arriero.tuning.lora import apply_lora

PRESETS = {preset.family: name for name, preset in sorted(presets().items())}


def model_of(family: str, **changes: Any) -> Any:
    config = (
        preset_config(PRESETS[family]) if family in PRESETS else PretrainSettings(family=family).config(300)
    )
    with torch.device("meta"):
        return build_model(config.model_copy(update=changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_every_family_is_in_one_group_once(family: str) -> None:
    model = model_of(family)
    roles = parameter_roles(model)
    assert list(roles) == [name for name, _ in model.named_parameters()]
    groups, matrices = role_groups(model, 0.1, ("matrix",))
    found = [id(p) for group in groups for p in group["params"]] + [id(p) for p in matrices]  # type: ignore[attr-defined]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert matrices and all(p.dim() == 2 for p in matrices)


@pytest.mark.parametrize("family", FAMILIES)
def test_decay_falls_on_the_weights_of_products_alone(family: str) -> None:
    """Asked of another source: how the parameters are named."""
    model = model_of(family)
    groups, _ = role_groups(model, 0.1)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}  # type: ignore[attr-defined]
    for name, p in model.named_parameters():
        last = name.rpartition(".")[2]
        if p.dim() < 2 or "bias" in last or any(part in name for part in ("norm", "positions", "segment")):
            assert id(p) not in decayed, name
        elif any(part in name for part in ("attention", "feed_forward", "head", "layers")):
            assert id(p) in decayed, name


def test_a_table_that_is_the_head_too_is_decayed_and_one_that_is_not_is_not() -> None:
    for tied, role in ((True, "head"), (False, "embedding")):
        assert parameter_roles(model_of("llama", tie_embeddings=tied))["embedding.weight"] == role
    assert parameter_roles(model_of("llama", tie_embeddings=False))["head.weight"] == "head"
    gpt2 = parameter_roles(model_of("gpt2"))
    assert (gpt2["embedding.weight"], gpt2["positions.weight"]) == ("head", "embedding")
    for task, role in (("masked_lm", "head"), ("none", "embedding")):
        assert parameter_roles(model_of("bert", task=task))["embedding.word.weight"] == role
    net = parameter_roles(model_of("feedforward", direct=True))
    assert (net["direct.weight"], net["head.weight"], net["feed_forward.weight"]) == (
        "head",
        "head",
        "matrix",
    )


def test_a_weight_that_two_modules_share_is_a_head_where_one_of_them_is_linear() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.inner = nn.Linear(4, 4)
            self.out = nn.Linear(4, 7, bias=False)
            self.out.weight = self.table.weight

    assert parameter_roles(Tied()) == {
        "table.weight": "head",
        "inner.weight": "matrix",
        "inner.bias": "vector",
    }


def test_a_bare_table_is_no_matrix() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.zeros(5, 4))
            self.score_bias = nn.Parameter(torch.zeros(2, 3))
            self.attention = nn.MultiheadAttention(4, 2)
            self.patch = nn.Conv2d(1, 4, 2)

    roles = parameter_roles(Patches())
    assert (roles["positions"], roles["score_bias"]) == ("embedding", "vector")
    assert roles["attention.in_proj_weight"] == roles["patch.weight"] == "matrix"
    _, matrices = role_groups(Patches(), 0.1, ("matrix",))
    assert sorted(tuple(p.shape) for p in matrices) == [(4, 4), (12, 4)], "Muon is for two dimensions"


def test_adapters_are_matrices_and_what_is_frozen_has_no_role() -> None:
    config = DecoderConfig(
        vocab_size=64, d_model=32, n_layers=1, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64, context_length=8
    )
    model = Decoder(config)
    model.init_weights(0)
    trained = apply_lora(model, 4, 8.0, 0.0, "all-linear", 0)
    roles = parameter_roles(model)
    assert set(roles.values()) == {"matrix"} and len(roles) == len(trained) == 14


def test_a_frozen_model_is_one_line() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ArrieroError, match="nothing to train"):
        make_optimizer(model, TrainSettings())


def test_a_group_may_have_a_learning_rate_of_its_own() -> None:
    optimizer = make_optimizer(nn.Linear(3, 3), TrainSettings())
    optimizer.param_groups[0]["lr_ratio"] = 0.5
    set_learning_rate(optimizer, 2.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 2.0]
