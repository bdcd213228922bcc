"""Llama 1, 2, 3, 3.1, 3.2 and Code Llama: RMSNorm before the branches, rotary positions, SwiGLU, grouped heads."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families.rope import ROPE_DEFAULTS, read_rope, write_rope
from arriero.models.family import Family

KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_ff": "intermediate_size",
    "context_length": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "init_std": "initializer_range",
}
DEFAULTS = {"tie_embeddings": False, "norm_eps": 1e-6, "context_length": 2048, **ROPE_DEFAULTS}
FIXED = {
    "norm": "rms",
    "arrangement": "pre",
    "final_norm": True,
    "embedding_norm": False,
    "positions": "rotary",
    "rotary_dim": None,
    "activation": "silu",
    "gated": True,
    "head_bias": False,
}
MODULES = {
    "embedding": "embed_tokens",
    "norm": "norm",
    "blocks.{}.attention_norm": "layers.{}.input_layernorm",
    "blocks.{}.attention.q_proj": "layers.{}.self_attn.q_proj",
    "blocks.{}.attention.k_proj": "layers.{}.self_attn.k_proj",
    "blocks.{}.attention.v_proj": "layers.{}.self_attn.v_proj",
    "blocks.{}.attention.o_proj": "layers.{}.self_attn.o_proj",
    "blocks.{}.feed_forward_norm": "layers.{}.post_attention_layernorm",
    "blocks.{}.feed_forward.gate_proj": "layers.{}.mlp.gate_proj",
    "blocks.{}.feed_forward.up_proj": "layers.{}.mlp.up_proj",
    "blocks.{}.feed_forward.down_proj": "layers.{}.mlp.down_proj",
}
IGNORED = ("rotary_emb.inv_freq",)


def _read(values: dict[str, Any]) -> dict[str, Any]:
    bias = bool(values.get("attention_bias", False))
    feed_forward = bool(values.get("mlp_bias", False))
    return {"qkv_bias": bias, "out_bias": bias, "feed_forward_bias": feed_forward, **read_rope(values)}


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.qkv_bias != config.out_bias:
        raise ValueError("a Llama has biases in all four attention projections or in none")
    biases = {"attention_bias": config.qkv_bias, "mlp_bias": config.feed_forward_bias}
    return {**biases, **write_rope(config)}


FAMILY = Family(
    name="llama",
    model_type="llama",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"LlamaForCausalLM": "causal_lm", "LlamaModel": "none"},
    keys=KEYS,
    defaults=DEFAULTS,
    fixed={**FIXED, "sliding_window": None},
    required={"hidden_act": "silu", "pretraining_tp": 1, "attention_dropout": 0.0, "use_cache": True},
    modules=MODULES,
    prefix="model",
    head_modules={"causal_lm": {"head": "lm_head"}},
    ignored=IGNORED,
    read=_read,
    write=_write,
    cite="arXiv 2302.13971, 2307.09288, 2407.21783, 2308.12950",
)
