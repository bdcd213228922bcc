from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch

from arriero.errors import ArrieroError
from arriero.models.checkpoint import save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.tuning.lora import (
    TARGETS,
    adapters,
    adapters_disabled,
    apply_lora,
    lora_state_dict,
    merge_lora,
    resolve_targets,
    save_adapter,
)

CONFIG = DecoderConfig(
    vocab_size=61, d_model=24, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=40, context_length=32, init_std=0.2
)
IDS = torch.randint(0, 61, (2, 17), generator=torch.Generator().manual_seed(1))


def make_model() -> Decoder:
    model = Decoder(CONFIG).eval()
    model.init_weights(0)
    return model


def stir(model: Decoder) -> None:
    """Give B values as training would."""
    generator = torch.Generator().manual_seed(9)
    for layer in adapters(model).values():
        with torch.no_grad():
            layer.lora_B.normal_(0, 0.3, generator=generator)


def test_identity_at_first() -> None:
    model = make_model()
    before = model(IDS)
    apply_lora(model, rank=4, alpha=8, dropout=0.0, targets="all-linear", seed=1)
    assert torch.equal(model(IDS), before)


def test_only_adapters_are_trained() -> None:
    model = make_model()
    trainable = apply_lora(model, rank=3, alpha=6, dropout=0.0, targets=["q_proj", "down_proj"], seed=1)
    assert len(adapters(model)) == 2 * CONFIG.n_layers and len(trainable) == 4 * CONFIG.n_layers
    stir(model)
    model(IDS).sum().backward()
    with_gradient = {id(p) for p in model.parameters() if p.grad is not None}
    assert with_gradient == {id(p) for p in trainable}
    assert sum(p.numel() for p in trainable) == CONFIG.n_layers * 3 * ((24 + 24) + (40 + 24))


def test_a_is_kaiming_uniform_and_seeded() -> None:
    first, again, other = make_model(), make_model(), make_model()
    apply_lora(first, 4, 8, 0.0, "all-linear", seed=1)
    apply_lora(again, 4, 8, 0.0, "all-linear", seed=1)
    apply_lora(other, 4, 8, 0.0, "all-linear", seed=2)
    one, two, three = (
        lora_state_dict(m)["blocks.1.feed_forward.down_proj.lora_A"] for m in (first, again, other)
    )
    assert torch.equal(one, two) and not torch.equal(one, three)
    bound = 1 / math.sqrt(40)
    assert bound * 0.9 < one.abs().max() <= bound


def test_merge_gives_the_same_function() -> None:
    model = make_model()
    plain = make_model()(IDS)
    apply_lora(model, 4, 8, 0.1, "all-linear", seed=1)
    stir(model)
    adapted = model(IDS)
    assert (adapted - plain).abs().max() > 0.1
    merge_lora(model)
    assert not adapters(model) and all(p.requires_grad for p in model.parameters())
    assert (model(IDS) - adapted).abs().max() <= 1e-5 * adapted.abs().max()


def test_disabled_is_the_base_and_comes_back() -> None:
    model = make_model()
    plain = model(IDS)
    apply_lora(model, 4, 8, 0.0, "all-linear", seed=1)
    stir(model)
    adapted = model(IDS)
    with adapters_disabled(model):
        assert torch.equal(model(IDS), plain)
        with adapters_disabled(model):
            pass
        assert torch.equal(model(IDS), plain)
    assert torch.equal(model(IDS), adapted)


def test_dropout_only_in_training() -> None:
    model = make_model()
    apply_lora(model, 4, 8, 0.5, "all-linear", seed=1)
    stir(model)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    assert not torch.equal(model(IDS), model(IDS))


def test_works_under_bfloat16_autocast() -> None:
    model = make_model()
    apply_lora(model, 4, 8, 0.0, "all-linear", seed=1)
    stir(model)
    exact = model(IDS)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(IDS)
    rough.float().sum().backward()
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().mean() + 0.02


@pytest.mark.parametrize(
    ("targets", "expected"),
    [("all-linear", list(TARGETS)), ("v_proj, q_proj", ["q_proj", "v_proj"]), (["up_proj"], ["up_proj"])],
)
def test_targets(targets: str | list[str], expected: list[str]) -> None:
    assert resolve_targets(targets) == expected


def test_bad_requests_are_refused() -> None:
    model = make_model()
    with pytest.raises(ArrieroError, match=r"'qproj'; did you mean 'q_proj'"):
        apply_lora(model, 4, 8, 0.0, ["qproj"], seed=1)
    with pytest.raises(ArrieroError, match="no adapters to save"):
        save_adapter(model, Path("nowhere"))
    with pytest.raises(ArrieroError, match="at least 1"):
        apply_lora(model, 0, 8, 0.0, ["q_proj"], seed=1)
    apply_lora(model, 4, 8, 0.0, ["q_proj"], seed=1)
    with pytest.raises(ArrieroError, match="already"):
        apply_lora(model, 4, 8, 0.0, ["q_proj"], seed=1)


def test_unmerged_model_is_not_saved_as_a_plain_one(tmp_path: Path) -> None:
    model = make_model()
    apply_lora(model, 4, 8, 0.0, ["q_proj"], seed=1)
    with pytest.raises(ArrieroError, match="merge the adapters"):
        save_model(model, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parity
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj"])
def test_peft_loads_the_adapter(targets: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = make_model()
    save_model(copy.deepcopy(model), tmp_path / "base")
    apply_lora(model, rank=4, alpha=12, dropout=0.05, targets=targets, seed=1)
    stir(model)
    save_adapter(model, tmp_path / "adapter", base_model=str(tmp_path / "base"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        mine, other = model(IDS), theirs(IDS).logits
    assert (mine - other).abs().max() <= 1e-5 * other.abs().max()
    merge_lora(model)
    with torch.no_grad():
        merged = theirs.merge_and_unload()(IDS).logits
        assert (model(IDS) - merged).abs().max() <= 1e-5 * merged.abs().max()
