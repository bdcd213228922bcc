"""OPT: GPT-3's shape with ReLU, and a table of positions whose first two rows are unused."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.family import Family
from arriero.models.layers.activation_names import ours_of, theirs_of

_OFFSET = 2


def _read(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("word_embed_proj_dim", values.get("hidden_size")) != values.get("hidden_size"):
        raise ValueError(
            "word_embed_proj_dim differs from hidden_size: OPT's projected embedding is not one Arriero has"
        )
    bias = values.get("enable_bias", True)
    before = values.get("do_layer_norm_before", True)
    return {
        "activation": ours_of(values.get("activation_function", "relu")),
        "arrangement": "pre" if before else "post",
        "final_norm": before and not values.get("_remove_final_layer_norm", False),
        "qkv_bias": bias,
        "out_bias": bias,
        "feed_forward_bias": bias,
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    if (
        config.n_kv_heads != config.n_heads
        or not config.qkv_bias == config.out_bias == config.feed_forward_bias
    ):
        raise ValueError("an OPT has as many key heads as query heads, and biases in all layers or in none")
    return {
        "activation_function": theirs_of(config.activation),
        "do_layer_norm_before": config.arrangement == "pre",
        "_remove_final_layer_norm": config.arrangement == "pre" and not config.final_norm,
        "enable_bias": config.qkv_bias,
        "word_embed_proj_dim": config.d_model,
    }


FAMILY = Family(
    name="opt",
    model_type="opt",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"OPTForCausalLM": "causal_lm", "OPTModel": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "d_ff": "ffn_dim",
        "context_length": "max_position_embeddings",
        "tie_embeddings": "tie_word_embeddings",
        "init_std": "init_std",
        "dropout": "dropout",
    },
    defaults={
        "tie_embeddings": True,
        "context_length": 2048,
        "activation": "relu",
        "qkv_bias": True,
        "out_bias": True,
        "feed_forward_bias": True,
    },
    fixed={
        "norm": "layer",
        "norm_bias": True,
        "norm_eps": 1e-5,
        "embedding_norm": False,
        "positions": "learned",
        "top_query": False,
        "position_offset": _OFFSET,
        "gated": False,
        "sliding_window": None,
        "head_bias": False,
    },
    required={"layer_norm_elementwise_affine": True, "attention_dropout": 0.0},
    modules={
        "embedding": "decoder.embed_tokens",
        "positions": "decoder.embed_positions",
        "norm": "decoder.final_layer_norm",
        "blocks.{}.attention_norm": "decoder.layers.{}.self_attn_layer_norm",
        "blocks.{}.attention.q_proj": "decoder.layers.{}.self_attn.q_proj",
        "blocks.{}.attention.k_proj": "decoder.layers.{}.self_attn.k_proj",
        "blocks.{}.attention.v_proj": "decoder.layers.{}.self_attn.v_proj",
        "blocks.{}.attention.o_proj": "decoder.layers.{}.self_attn.out_proj",
        "blocks.{}.feed_forward_norm": "decoder.layers.{}.final_layer_norm",
        "blocks.{}.feed_forward.up_proj": "decoder.layers.{}.fc1",
        "blocks.{}.feed_forward.down_proj": "decoder.layers.{}.fc2",
    },
    prefix="model",
    head_modules={"causal_lm": {"head": "lm_head"}},
    read=_read,
    write=_write,
    cite="arXiv 2205.01068",
)
