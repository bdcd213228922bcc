"""Falcon: both branches side by side, one key head (7B) or groups (40B, 180B)."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import bloom
from arriero.models.families.rope import ROPE_DEFAULTS, read_rope, write_rope
from arriero.models.family import Family
from arriero.models.layers.activation_names import ours_of, theirs_of

_BRANCH_NORMS = ("blocks.{}.attention_norm", "blocks.{}.feed_forward_norm")


def _norms(config: DecoderConfig) -> dict[str, str]:
    """BLOOM's names; where each branch has its own norm, these have names of their own."""
    if config.arrangement == "parallel" and config.parallel_norms == 2:
        return dict(zip(_BRANCH_NORMS, ("h.{}.ln_attn", "h.{}.ln_mlp"), strict=True))
    return {name: str(bloom.MODULES[name]) for name in _BRANCH_NORMS}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("alibi"):
        raise ValueError("a Falcon with ALiBi is not one that Arriero has")
    new = values.get("new_decoder_architecture", False)
    heads = values.get("num_attention_heads", 71)
    one = values.get("multi_query", True) and not new
    norms = values.get("num_ln_in_parallel_attn") or (2 if new else 1)
    bias = values.get("bias", False)
    return {
        **read_rope(values),
        "n_kv_heads": 1 if one else (values.get("num_kv_heads") or heads) if new else heads,
        "d_ff": values.get("ffn_hidden_size") or 4 * values.get("hidden_size", 4544),
        "arrangement": "parallel" if new or values.get("parallel_attn", True) else "pre",
        "parallel_norms": norms,
        "activation": ours_of(values.get("activation") or "gelu"),
        "qkv_bias": bias,
        "out_bias": bias,
        "feed_forward_bias": bias,
    }


def _write(config: DecoderConfig) -> dict[str, Any]:
    if not config.qkv_bias == config.out_bias == config.feed_forward_bias:
        raise ValueError("a Falcon has biases in all layers or in none")
    parallel = config.arrangement == "parallel"
    new = parallel and (config.parallel_norms == 2 or 1 < config.n_kv_heads < config.n_heads)
    if config.arrangement == "post" or (not new and 1 < config.n_kv_heads < config.n_heads):
        raise ValueError("a Falcon with groups of heads has its branches side by side")
    return {
        **write_rope(config),
        "num_kv_heads": config.n_kv_heads,
        "multi_query": config.n_kv_heads == 1,
        "new_decoder_architecture": new,
        "num_ln_in_parallel_attn": config.parallel_norms if new else None,
        "parallel_attn": parallel,
        "ffn_hidden_size": config.d_ff,
        "activation": theirs_of(config.activation),
        "bias": config.qkv_bias,
        "alibi": False,
    }


FAMILY = Family(
    name="falcon",
    model_type="falcon",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"FalconForCausalLM": "causal_lm", "FalconModel": "none"},
    keys={
        "vocab_size": "vocab_size",
        "d_model": "hidden_size",
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "context_length": "max_position_embeddings",
        "norm_eps": "layer_norm_epsilon",
        "init_std": "initializer_range",
        "dropout": "hidden_dropout",
        "tie_embeddings": "tie_word_embeddings",
    },
    defaults={
        "tie_embeddings": True,
        "context_length": 2048,
        "arrangement": "parallel",
        "activation": "gelu",
        **ROPE_DEFAULTS,
    },
    fixed={
        "norm": "layer",
        "norm_bias": True,
        "final_norm": True,
        "embedding_norm": False,
        "positions": "rotary",
        "rotary_dim": None,
        "gated": False,
        "sliding_window": None,
        "head_bias": False,
    },
    required={"attention_dropout": 0.0},
    modules={
        name: theirs
        for name, theirs in bloom.MODULES.items()
        if name not in ("embedding_norm", *_BRANCH_NORMS)
    },
    modules_of=_norms,
    prefix="transformer",
    head_modules={"causal_lm": {"head": "lm_head"}},
    ignored=("rotary_emb.inv_freq",),
    read=_read,
    write=_write,
    cite="arXiv 2311.16867",
)
