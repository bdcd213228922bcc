"""GPT-2 and the GPT-3 shapes: LayerNorm before the branches, learned positions, biases everywhere, tied head."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.family import Family, Fused, Modules
from arriero.models.layers.activation_names import ours_of, theirs_of

KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "n_embd",
    "n_layers": "n_layer",
    "n_heads": "n_head",
    "context_length": "n_positions",
    "norm_eps": "layer_norm_epsilon",
    "init_std": "initializer_range",
}
DEFAULTS = {
    "vocab_size": 50257,
    "d_model": 768,
    "n_layers": 12,
    "n_heads": 12,
    "context_length": 1024,
    "tie_embeddings": True,
    "activation": "gelu_tanh",
}
FIXED = {
    "norm": "layer",
    "norm_bias": True,
    "arrangement": "pre",
    "final_norm": True,
    "embedding_norm": False,
    "positions": "learned",
    "position_offset": 0,
    "top_query": False,
    "gated": False,
    "sliding_window": None,
    "qkv_bias": True,
    "out_bias": True,
    "feed_forward_bias": True,
    "head_bias": False,
}
BLOCK: Modules = {
    "blocks.{}.attention_norm": "h.{}.ln_1",
    "blocks.{}.attention.q_proj": Fused("h.{}.attn.c_attn"),
    "blocks.{}.attention.k_proj": Fused("h.{}.attn.c_attn"),
    "blocks.{}.attention.v_proj": Fused("h.{}.attn.c_attn"),
    "blocks.{}.attention.o_proj": "h.{}.attn.c_proj",
    "blocks.{}.feed_forward_norm": "h.{}.ln_2",
    "blocks.{}.feed_forward.up_proj": "h.{}.mlp.c_fc",
    "blocks.{}.feed_forward.down_proj": "h.{}.mlp.c_proj",
}
MODULES: Modules = {"embedding": "wte", "positions": "wpe", "norm": "ln_f", **BLOCK}
CONV1D = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
"""OpenAI's one-dimensional convolutions keep their weights as [in, out]."""


def read_shape(values: dict[str, Any]) -> dict[str, Any]:
    """Width of the feed-forward layer, heads and dropout, which all of OpenAI's families say alike."""
    width = values.get("n_embd", DEFAULTS["d_model"])
    return {"d_ff": values.get("n_inner") or 4 * width, "dropout": values.get("resid_pdrop", 0.1)}


def _read(values: dict[str, Any]) -> dict[str, Any]:
    tied = values.get("tie_word_embeddings", True)
    activation = ours_of(values.get("activation_function", "gelu_new"))
    return {**read_shape(values), "activation": activation, "tie_embeddings": tied}


def write_shape(config: DecoderConfig) -> dict[str, Any]:
    """The keys that :func:`read_shape` reads."""
    if config.n_kv_heads != config.n_heads or config.head_dim * config.n_heads != config.d_model:
        raise ValueError(f"a {config.family} has as many key heads as query heads, d_model / n_heads wide")
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop"), config.dropout)
    return {"n_inner": config.d_ff, "attn_pdrop": 0.0, **rates, "tie_word_embeddings": config.tie_embeddings}


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {"activation_function": theirs_of(config.activation), **write_shape(config)}


FAMILY = Family(
    name="gpt2",
    model_type="gpt2",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"GPT2LMHeadModel": "causal_lm", "GPT2Model": "none"},
    keys=KEYS,
    defaults=DEFAULTS,
    fixed=FIXED,
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
    },
    modules=MODULES,
    prefix="transformer",
    head_modules={"causal_lm": {"head": "lm_head"}},
    transposed=CONV1D,
    ignored=(".attn.bias", ".attn.masked_bias"),
    read=_read,
    write=_write,
    cite="Radford et al. 2019; arXiv 2005.14165",
)
