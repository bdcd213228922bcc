"""GPT-NeoX and Pythia: both branches side by side, each with its LayerNorm; a quarter of each head turns."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families.rope import ROPE_DEFAULTS, read_rope, write_rope
from arriero.models.family import Family, Fused
from arriero.models.layers.activation_names import ours_of, theirs_of

KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "context_length": "max_position_embeddings",
    "norm_eps": "layer_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "init_std": "initializer_range",
    "dropout": "hidden_dropout",
}
FIXED = {
    "norm": "layer",
    "norm_bias": True,
    "parallel_norms": 2,
    "final_norm": True,
    "embedding_norm": False,
    "positions": "rotary",
    "gated": False,
    "sliding_window": None,
    "feed_forward_bias": True,
    "head_bias": False,
}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    head_dim = values.get("hidden_size", 6144) // values.get("num_attention_heads", 64)
    rope = values.get("rope_parameters") or {}
    share = rope.get("partial_rotary_factor", values.get("rotary_pct", 0.25))
    theta = {"rope_theta": values["rotary_emb_base"]} if "rotary_emb_base" in values else {}
    bias = values.get("attention_bias", True)
    return {
        **theta,
        **read_rope(values),
        "rotary_dim": int(head_dim * share),
        "activation": ours_of(values.get("hidden_act", "gelu")),
        "arrangement": "parallel" if values.get("use_parallel_residual", True) else "pre",
        "qkv_bias": bias,
        "out_bias": bias,
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.n_kv_heads != config.n_heads or config.qkv_bias != config.out_bias:
        raise ValueError(
            "a GPT-NeoX has as many key heads as query heads, and biases in all projections or none"
        )
    share = config.rotary_width / config.head_dim
    rope = write_rope(config)
    rope["rope_parameters"]["partial_rotary_factor"] = share
    return {
        **rope,
        "rotary_emb_base": config.rope_theta,
        "rotary_pct": share,
        "hidden_act": theirs_of(config.activation),
        "use_parallel_residual": config.arrangement == "parallel",
        "attention_bias": config.qkv_bias,
    }


_QKV = Fused("layers.{}.attention.query_key_value", "grouped")

FAMILY = Family(
    name="gpt_neox",
    model_type="gpt_neox",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"GPTNeoXForCausalLM": "causal_lm", "GPTNeoXModel": "none"},
    keys=KEYS,
    defaults={
        "tie_embeddings": False,
        "arrangement": "parallel",
        "activation": "gelu",
        "qkv_bias": True,
        "out_bias": True,
        **ROPE_DEFAULTS,
    },
    fixed=FIXED,
    required={"attention_dropout": 0.0},
    modules={
        "embedding": "embed_in",
        "norm": "final_layer_norm",
        "blocks.{}.attention_norm": "layers.{}.input_layernorm",
        "blocks.{}.attention.q_proj": _QKV,
        "blocks.{}.attention.k_proj": _QKV,
        "blocks.{}.attention.v_proj": _QKV,
        "blocks.{}.attention.o_proj": "layers.{}.attention.dense",
        "blocks.{}.feed_forward_norm": "layers.{}.post_attention_layernorm",
        "blocks.{}.feed_forward.up_proj": "layers.{}.mlp.dense_h_to_4h",
        "blocks.{}.feed_forward.down_proj": "layers.{}.mlp.dense_4h_to_h",
    },
    prefix="gpt_neox",
    head_modules={"causal_lm": {"head": "embed_out"}},
    ignored=("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"),
    read=_read,
    write=_write,
    cite="arXiv 2204.06745, 2304.01373",
)
