"""Mistral: Llama with a sliding window (arXiv 2310.06825)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import llama
from arriero.models.families.rope import read_rope, write_rope


def _read(values: dict[str, Any]) -> dict[str, Any]:
    # an absent key means 4096 to transformers, null means no window
    return {"sliding_window": values.get("sliding_window", 4096), **read_rope(values)}


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {"sliding_window": config.sliding_window, **write_rope(config)}


FAMILY = replace(
    llama.FAMILY,
    name="mistral",
    model_type="mistral",
    architectures={"MistralForCausalLM": "causal_lm", "MistralModel": "none"},
    defaults={**llama.DEFAULTS, "n_kv_heads": 8, "context_length": 4096 * 32},
    fixed={**llama.FIXED, "qkv_bias": False, "out_bias": False, "feed_forward_bias": False},
    required={"hidden_act": "silu", "attention_dropout": 0.0, "use_cache": True},
    read=_read,
    write=_write,
    cite="arXiv 2310.06825",
)
