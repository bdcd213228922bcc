"""Gopher and Chinchilla, in folders of Arriero's own: GPT-2 with RMSNorm and Transformer-XL's relative positions.

The papers name these two changes to GPT-2 and no other, so its biases are kept; their counts of parameters leave norms and
biases out.
"""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.family import Family, Modules

FIELDS = (
    "vocab_size", "d_model", "n_layers", "n_heads", "head_dim", "d_ff", "context_length",
    "norm_eps", "init_std", "dropout", "tie_embeddings",
)  # fmt: skip
"""Fields that ``config.json`` has under our names."""
FIXED = {
    "arrangement": "pre",
    "final_norm": True,
    "embedding_norm": False,
    "gated": False,
    "sliding_window": None,
    "qkv_bias": True,
    "out_bias": True,
    "feed_forward_bias": True,
    "head_bias": False,
}
MODULES: Modules = {
    name: name
    for name in (
        "embedding",
        "norm",
        "blocks.{}.attention_norm",
        "blocks.{}.feed_forward_norm",
        *(f"blocks.{{}}.attention.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj")),
        *(f"blocks.{{}}.feed_forward.{part}" for part in ("up_proj", "down_proj")),
    )
}
_BIASES = tuple(f"blocks.{{}}.attention.{name}" for name in ("content_bias", "position_bias"))


def write(config: DecoderConfig) -> dict[str, Any]:
    """Nothing beyond the fields.

    Raises:
        ValueError: grouped key heads, which no model of these families has.
    """
    if config.n_kv_heads != config.n_heads:
        raise ValueError(f"a {config.family} has as many key heads as query heads")
    return {}


FAMILY = Family(
    name="gopher",
    model_type="arriero_gopher",
    config=DecoderConfig,
    network="arriero.models.decoder:Decoder",
    architectures={"ArrieroGopherForCausalLM": "causal_lm"},
    keys={field: field for field in FIELDS},
    defaults={"context_length": 2048, "tie_embeddings": True},
    fixed={**FIXED, "norm": "rms", "positions": "relative", "activation": "gelu"},
    modules={**MODULES, "blocks.{}.attention.r_proj": "blocks.{}.attention.r_proj"},
    parameters={name: name for name in _BIASES},
    head_modules={"causal_lm": {"head": "head"}},
    write=write,
    cite="arXiv 2112.11446, 2203.15556; positions: arXiv 1901.02860",
)
