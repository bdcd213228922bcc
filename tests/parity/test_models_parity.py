"""Our decoder against transformers' LlamaForCausalLM, both directions, on small random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from arriero.compression.rounding import quantize_model
from arriero.models.checkpoint import load_model, save_model
from arriero.models.decoder import Decoder
from arriero.models.decoder_config import DecoderConfig
from arriero.models.layers.quantized import WeightScheme
from arriero.native.linear import exact_products

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

SHAPES: dict[str, dict[str, Any]] = {
    "grouped, tied": {"n_heads": 4, "n_kv_heads": 2, "tie_embeddings": True},
    "grouped, untied": {
        "n_heads": 6,
        "n_kv_heads": 3,
        "d_model": 66,
        "head_dim": 22,
        "tie_embeddings": False,
    },
    "one key head": {"n_heads": 5, "n_kv_heads": 1, "d_model": 50, "tie_embeddings": True, "vocab_size": 101},
    "every head its own": {"n_heads": 3, "n_kv_heads": 3, "d_model": 30, "d_ff": 71, "tie_embeddings": False},
    "wide heads": {"n_heads": 2, "n_kv_heads": 1, "d_model": 20, "head_dim": 34, "rope_theta": 10000.0},
}


def make_config(**changes: Any) -> DecoderConfig:
    values = {
        "vocab_size": 97,
        "d_model": 48,
        "n_layers": 2,
        "d_ff": 80,
        "context_length": 64,
        "init_std": 0.2,
    }
    return DecoderConfig.model_validate({**values, **changes})


def random_ids(config: DecoderConfig, *shape: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, shape, generator=torch.Generator().manual_seed(5))


def theirs_of(config: DecoderConfig, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    hf = transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        intermediate_size=config.d_ff,
        max_position_embeddings=config.context_length,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tie_embeddings,
        initializer_range=config.init_std,
        rope_theta=config.rope_theta,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(hf).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
def greedy(logits_of: Any, ids: torch.Tensor, steps: int) -> list[int]:
    for _ in range(steps):
        ids = torch.cat([ids, logits_of(ids)[:, -1:].argmax(-1)], dim=1)
    return ids[0].tolist()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_transformers_model_loads_here(shape: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(**shape)
    theirs = theirs_of(config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config == config
    ids = random_ids(config, 3, 31)
    with torch.no_grad():
        assert_close(ours(ids), theirs(ids).logits)
    prompt = random_ids(config, 1, 7)
    assert greedy(ours, prompt, 32) == greedy(lambda ids: theirs(ids).logits, prompt, 32)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_our_model_loads_in_transformers(shape: dict[str, Any], tmp_path: Path) -> None:
    config = make_config(**shape)
    ours = Decoder(config).eval()
    ours.init_weights(3)
    save_model(ours, tmp_path, bos_token_id=1, eos_token_id=[2, 3], pad_token_id=0)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert theirs.generation_config.eos_token_id == [2, 3]
    ids = random_ids(config, 2, 40)
    with torch.no_grad():
        assert_close(ours(ids), theirs.eval()(ids).logits)
    prompt = random_ids(config, 1, 7)
    generated = theirs.generate(prompt, max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert greedy(ours, prompt, 32) == generated[0].tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_folders_keep_dtype_and_bits(dtype: str, tmp_path: Path) -> None:
    config = make_config(**SHAPES["grouped, untied"])
    ours = Decoder(config)
    ours.init_weights(3)
    save_model(ours, tmp_path, dtype)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    back = load_model(tmp_path)
    assert theirs.dtype == back.embedding.weight.dtype == getattr(torch, dtype)
    assert torch.equal(theirs.model.layers[1].mlp.up_proj.weight, back.blocks[1].feed_forward.up_proj.weight)


def test_sharded_folder_loads_here(tmp_path: Path) -> None:
    config = make_config(**SHAPES["grouped, untied"])
    theirs = theirs_of(config)
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    ids = random_ids(config, 2, 20)
    with torch.no_grad():
        assert_close(load_model(tmp_path)(ids), theirs(ids).logits)


def test_gradients_equal(tmp_path: Path) -> None:
    config = make_config(**SHAPES["grouped, tied"])
    theirs = theirs_of(config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    ids = random_ids(config, 2, 24)
    torch.nn.functional.cross_entropy(ours(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    theirs(ids, labels=ids).loss.backward()
    mine = ours.blocks[0].attention
    other = theirs.model.layers[0].self_attn
    for a, b in (
        (ours.embedding.weight, theirs.model.embed_tokens.weight),
        (mine.k_proj.weight, other.k_proj.weight),
        (ours.blocks[1].attention_norm.weight, theirs.model.layers[1].input_layernorm.weight),
    ):
        assert (a.grad - b.grad).abs().max() <= 1e-4 * b.grad.abs().max()


QUANTISED = [WeightScheme(8), WeightScheme(4, 32), WeightScheme(4, 64)]


def quantised_folder(scheme: WeightScheme, folder: Path) -> Decoder:
    model = Decoder(make_config(n_heads=4, n_kv_heads=2, d_model=64, d_ff=192)).eval()
    model.init_weights(3)
    quantize_model(model, scheme, torch.float32)
    save_model(model, folder)
    return model


@pytest.mark.parametrize("scheme", QUANTISED, ids=lambda s: f"{s.name}-{s.group_size}")
def test_compressed_tensors_reads_the_same_weights(scheme: WeightScheme, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig

    model = quantised_folder(scheme, tmp_path)
    declared = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    parsed = QuantizationConfig.model_validate(declared)
    layer = model.blocks[1].feed_forward.down_proj
    weights = PackedQuantizationCompressor.decompress(
        dict(layer.state_dict()), parsed.config_groups["group_0"]
    )
    assert torch.equal(weights["weight"], layer.dequantised(torch.float32))


@pytest.mark.parametrize("scheme", QUANTISED, ids=lambda s: f"{s.name}-{s.group_size}")
def test_quantised_folder_loads_in_transformers(scheme: WeightScheme, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    ours = quantised_folder(scheme, tmp_path)
    ids = random_ids(ours.config, 2, 30)
    with torch.no_grad(), exact_products():  # theirs keeps activations in float32
        expected = ours(ids)
        # without a dtype transformers 4 computes quantised models in float16
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert_close(expected, theirs(ids).logits)
        assert torch.equal(load_model(tmp_path)(ids), expected)
