"""Adapters that PEFT wrote, several in one batch, against PEFT's own model with each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.inference.adapters import AdapterStore
from arriero.models.checkpoint import load_decoder

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.parity

SMALL = {"vocab_size": 97, "max_position_embeddings": 64}
MODELS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "llama": (
        "LlamaForCausalLM",
        SMALL | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                 "intermediate_size": 48},
        ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {"vocab_size": 97, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4},
        ["c_attn", "c_proj", "c_fc"],
    ),
    "gpt_neox": (
        "GPTNeoXForCausalLM",
        SMALL | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
        ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    ),
}  # fmt: skip


def make(kind: str) -> Any:
    name, shape, _ = MODELS[kind]
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    return model_class(model_class.config_class(**shape)).eval()


def stir(model: Any, seed: int) -> None:
    """Values as training would leave them."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.2, generator=generator)


@pytest.mark.parametrize("kind", MODELS)
def test_several_of_pefts_adapters_in_one_batch(kind: str, tmp_path: Path) -> None:
    targets = MODELS[kind][2]
    make(kind).save_pretrained(tmp_path / "base")
    settings = {
        "all": {"r": 4, "lora_alpha": 8, "target_modules": targets},
        "few": {"r": 3, "lora_alpha": 5, "target_modules": targets[:1], "use_rslora": True},
        "uneven": {
            "r": 2, "lora_alpha": 4, "target_modules": targets,
            "rank_pattern": {targets[0]: 6}, "alpha_pattern": {targets[-1]: 3},
        },
    }  # fmt: skip
    names: list[str | None] = ["few", None, "all", "uneven", "all"]
    ids = torch.randint(0, 97, (len(names), 11), generator=torch.Generator().manual_seed(3))
    theirs: dict[str | None, torch.Tensor] = {}
    with torch.no_grad():
        theirs[None] = make(kind)(ids).logits
        for seed, (name, options) in enumerate(settings.items()):
            fan = {"fan_in_fan_out": True} if kind == "gpt2" else {}
            adapted = peft.get_peft_model(make(kind), peft.LoraConfig(**options, **fan)).eval()
            stir(adapted, seed)
            adapted.save_pretrained(tmp_path / name)
            theirs[name] = adapted(ids).logits
    model = load_decoder(tmp_path / "base")
    store = AdapterStore(model)
    for name in settings:
        store.load(name, tmp_path / name)
    with torch.inference_mode(), store.active([name for name in names for _ in range(ids.shape[1])]):
        ours = model(ids)
    for row, name in enumerate(names):
        torch.testing.assert_close(ours[row], theirs[name][row], atol=1e-4, rtol=1e-4)
    assert (theirs["all"] - theirs[None]).abs().max() > 0.05


def test_our_adapter_files_mean_the_same_to_peft(tmp_path: Path) -> None:
    from arriero.tuning.lora import adapters, apply_lora, save_adapter

    base = make("llama")
    base.save_pretrained(tmp_path / "base")
    tuned = load_decoder(tmp_path / "base")
    apply_lora(tuned, 3, 6, 0.0, "all-linear", seed=1)
    for number, layer in enumerate(adapters(tuned).values()):
        torch.nn.init.normal_(layer.lora_B, 0, 0.2, torch.Generator().manual_seed(number))
    save_adapter(tuned, tmp_path / "adapter", str(tmp_path / "base"))
    ids = torch.randint(0, 97, (2, 7), generator=torch.Generator().manual_seed(3))
    model = load_decoder(tmp_path / "base")
    store = AdapterStore(model)
    store.load("mine", tmp_path / "adapter")
    with torch.no_grad():
        theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
    with torch.inference_mode(), store.active(["mine"] * 14):
        torch.testing.assert_close(model(ids), theirs, atol=1e-4, rtol=1e-4)
