"""BLOOM: ALiBi in place of positions, and a norm right after the embedding. BloombergGPT has its shape."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.family import Family, Fused, Modules

MAX_LENGTH = 2048
"""Tokens that BLOOM was trained on; ALiBi itself has no limit, and ``config.json`` names none."""

_QKV = Fused("h.{}.self_attention.query_key_value", "grouped")
MODULES: Modules = {
    "embedding": "word_embeddings",
    "embedding_norm": "word_embeddings_layernorm",
    "norm": "ln_f",
    "blocks.{}.attention_norm": "h.{}.input_layernorm",
    "blocks.{}.attention.q_proj": _QKV,
    "blocks.{}.attention.k_proj": _QKV,
    "blocks.{}.attention.v_proj": _QKV,
    "blocks.{}.attention.o_proj": "h.{}.self_attention.dense",
    "blocks.{}.feed_forward_norm": "h.{}.post_attention_layernorm",
    "blocks.{}.feed_forward.up_proj": "h.{}.mlp.dense_h_to_4h",
    "blocks.{}.feed_forward.down_proj": "h.{}.mlp.dense_4h_to_h",
}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    width = values.get("hidden_size") or values.get("n_embed")
    return {
        "d_model": width,
        "d_ff": 4 * int(width or 0),
        "context_length": values.get("seq_length", MAX_LENGTH),
        "n_layers": values.get("n_layer", values.get("num_hidden_layers")),
        "n_heads": values.get("n_head", values.get("num_attention_heads")),
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.n_kv_heads != config.n_heads or config.d_ff != 4 * config.d_model:
        raise ValueError("a BLOOM has as many key heads as query heads, and feed-forward layers of 4 d_model")
    return {"n_layer": config.n_layers, "n_head": config.n_heads, "seq_length": config.context_length}


FAMILY = Family(
    name="bloom",
    model_type="bloom",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"BloomForCausalLM": "causal_lm", "BloomModel": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "norm_eps": "layer_norm_epsilon",
        "init_std": "initializer_range",
        "dropout": "hidden_dropout",
        "tie_embeddings": "tie_word_embeddings",
    },
    defaults={"tie_embeddings": True},
    fixed={
        "norm": "layer",
        "norm_bias": True,
        "arrangement": "pre",
        "final_norm": True,
        "embedding_norm": True,
        "positions": "alibi",
        "activation": "gelu_tanh",
        "gated": False,
        "sliding_window": None,
        "qkv_bias": True,
        "out_bias": True,
        "feed_forward_bias": True,
        "head_bias": False,
    },
    required={
        "apply_residual_connection_post_layernorm": False,
        "slow_but_exact": False,
        "attention_dropout": 0.0,
    },
    modules=MODULES,
    prefix="transformer",
    head_modules={"causal_lm": {"head": "lm_head"}},
    read=_read,
    write=_write,
    cite="arXiv 2211.05100",
)
