"""MPT: ALiBi, and no bias anywhere, not even in the norms."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.family import Family, Fused

_ATTENTION = {
    "alibi": True,
    "alibi_bias_max": 8,
    "clip_qkv": None,
    "qk_ln": False,
    "softmax_scale": None,
    "prefix_lm": False,
}
"""Keys of ``attn_config`` and the values that Arriero has."""


def _read(values: dict[str, Any]) -> dict[str, Any]:
    attention = values.get("attn_config") or {}
    for key, needed in _ATTENTION.items():
        if attention.get(key, needed) != needed:
            raise ValueError(f"attn_config.{key} is {attention[key]!r}; Arriero's MPT has only {needed!r}")
    return {"d_ff": 4 * values.get("d_model", 2048)}


def _write(config: DecoderConfig) -> dict[str, Any]:
    if config.n_kv_heads != config.n_heads or config.d_ff != 4 * config.d_model:
        raise ValueError("an MPT has as many key heads as query heads, and feed-forward layers of 4 d_model")
    return {"attn_config": {**_ATTENTION, "model_type": ""}, "emb_pdrop": config.dropout}


_QKV = Fused("blocks.{}.attn.Wqkv")

FAMILY = Family(
    name="mpt",
    model_type="mpt",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"MptForCausalLM": "causal_lm", "MPTForCausalLM": "causal_lm", "MptModel": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "d_model",
        "n_layers": "n_layers",
        "n_heads": "n_heads",
        "context_length": "max_seq_len",
        "norm_eps": "layer_norm_epsilon",
        "init_std": "initializer_range",
        "dropout": "resid_pdrop",
        "tie_embeddings": "tie_word_embeddings",
    },
    defaults={"tie_embeddings": True, "context_length": 2048},
    fixed={
        "norm": "layer",
        "norm_bias": False,
        "arrangement": "pre",
        "final_norm": True,
        "embedding_norm": False,
        "positions": "alibi",
        "activation": "gelu",
        "gated": False,
        "sliding_window": None,
        "qkv_bias": False,
        "out_bias": False,
        "feed_forward_bias": False,
        "head_bias": False,
    },
    required={"no_bias": True, "logit_scale": None, "expansion_ratio": 4},
    modules={
        "embedding": "wte",
        "norm": "norm_f",
        "blocks.{}.attention_norm": "blocks.{}.norm_1",
        "blocks.{}.attention.q_proj": _QKV,
        "blocks.{}.attention.k_proj": _QKV,
        "blocks.{}.attention.v_proj": _QKV,
        "blocks.{}.attention.o_proj": "blocks.{}.attn.out_proj",
        "blocks.{}.feed_forward_norm": "blocks.{}.norm_2",
        "blocks.{}.feed_forward.up_proj": "blocks.{}.ffn.up_proj",
        "blocks.{}.feed_forward.down_proj": "blocks.{}.ffn.down_proj",
    },
    prefix="transformer",
    head_modules={"causal_lm": {"head": "lm_head"}},
    read=_read,
    write=_write,
    cite="MosaicML 2023, the model card of MPT-7B",
)
