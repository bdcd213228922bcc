from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arriero.models.gguf import GgufFile, written_type
from arriero.models.tensor_files import TensorEntry

VALUES: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "llama",
        "vocab_size": 75,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 96,
        "max_position_embeddings": 128,
        "rms_norm_eps": 3e-6,
        "rope_theta": 5000.0,
        "tie_word_embeddings": False,
    },
    "qwen2": {
        "model_type": "qwen2",
        "vocab_size": 75,
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "intermediate_size": 44,
        "max_position_embeddings": 128,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    },
    "gpt2": {
        "model_type": "gpt2",
        "vocab_size": 75,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 40,
    },
}


def shapes(values: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensors of a Hugging Face folder with this config.json."""
    return _gpt2_shapes(values) if values["model_type"] == "gpt2" else _llama_shapes(values)


def _llama_shapes(v: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d, ff = v["hidden_size"], v["intermediate_size"]
    head_dim = v.get("head_dim") or d // v["num_attention_heads"]
    q, kv = v["num_attention_heads"] * head_dim, v["num_key_value_heads"] * head_dim
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (v["vocab_size"], d),
        "model.norm.weight": (d,),
    }
    if not v["tie_word_embeddings"]:
        found["lm_head.weight"] = (v["vocab_size"], d)
    for layer in range(v["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            found[f"{at}self_attn.{name}_proj.weight"] = (rows, d)
            if v["model_type"] == "qwen2" or v.get("attention_bias"):
                found[f"{at}self_attn.{name}_proj.bias"] = (rows,)
        found[f"{at}self_attn.o_proj.weight"] = (d, q)
        if v.get("attention_bias"):
            found[f"{at}self_attn.o_proj.bias"] = (d,)
        found |= {f"{at}mlp.{name}_proj.weight": (ff, d) for name in ("gate", "up")}
        found[f"{at}mlp.down_proj.weight"] = (d, ff)
        found |= {f"{at}{name}_layernorm.weight": (d,) for name in ("input", "post_attention")}
    return found


def _gpt2_shapes(v: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    d = v["n_embd"]
    found: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (v["vocab_size"], d),
        "transformer.wpe.weight": (v["n_positions"], d),
    }
    modules = {"transformer.ln_f": (d,)}
    for layer in range(v["n_layer"]):
        at = f"transformer.h.{layer}."
        modules |= {
            f"{at}ln_1": (d,),
            f"{at}ln_2": (d,),
            f"{at}attn.c_attn": (d, 3 * d),
            f"{at}attn.c_proj": (d, d),
        }
        modules |= {f"{at}mlp.c_fc": (d, 4 * d), f"{at}mlp.c_proj": (4 * d, d)}
    for name, shape in modules.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[-1:]}
    return found


def random_tensors(values: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes(values).items()}


def entries_of(tensors: dict[str, Tensor]) -> list[TensorEntry]:
    return [
        TensorEntry(name, tuple(tensor.shape), tensor.dtype, lambda tensor=tensor: tensor)
        for name, tensor in tensors.items()
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a model of these values as GGUF."""

    def make(values: dict[str, Any], tensors: dict[str, Tensor], kind: str = "F32", **more: Any) -> Path:
        file = GgufFile(values, entries_of(tensors), written_type(kind), **more)
        path = tmp_path / f"{values['model_type']}-{kind}.gguf"
        file.write(path)
        assert path.stat().st_size == file.file_bytes
        return path

    return make
