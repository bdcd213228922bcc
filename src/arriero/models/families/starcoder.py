"""StarCoder (GPT-BigCode): GPT-2 with one key head for all query heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import gpt2
from arriero.models.family import Fused
from arriero.models.layers.activation_names import ours_of


def _read(values: dict[str, Any]) -> dict[str, Any]:
    return {
        **gpt2.read_shape(values),
        "n_kv_heads": 1 if values.get("multi_query", True) else values.get("n_head", 12),
        "activation": ours_of(values.get("activation_function", "gelu_pytorch_tanh")),
        "tie_embeddings": values.get("tie_word_embeddings", True),
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.n_kv_heads not in (1, config.n_heads):
        raise ValueError("a StarCoder has one key head, or as many as query heads")
    one_head = config.n_kv_heads == 1
    whole = config.model_copy(update={"n_kv_heads": config.n_heads})
    return {**gpt2.FAMILY.write(whole), "multi_query": one_head}


_QKV = Fused("h.{}.attn.c_attn", "grouped")

FAMILY = replace(
    gpt2.FAMILY,
    name="starcoder",
    model_type="gpt_bigcode",
    architectures={"GPTBigCodeForCausalLM": "causal_lm", "GPTBigCodeModel": "none"},
    required={"scale_attn_weights": True, "add_cross_attention": False},
    modules={
        **gpt2.MODULES,
        **{f"blocks.{{}}.attention.{part}": _QKV for part in ("q_proj", "k_proj", "v_proj")},
    },
    transposed=(),
    read=_read,
    write=_write,
    cite="arXiv 2305.06161",
)
