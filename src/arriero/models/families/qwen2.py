"""Qwen 2 and 2.5: Llama with biases on queries, keys and values (arXiv 2407.10671)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import llama
from arriero.models.families.rope import read_rope, write_rope


def _read(values: dict[str, Any]) -> dict[str, Any]:
    if values.get("use_sliding_window"):
        raise ValueError("a Qwen 2 whose upper layers alone have a window is not one that Arriero has")
    return read_rope(values)


def _write(config: DecoderConfig) -> dict[str, Any]:
    return {"use_sliding_window": False, **write_rope(config)}


FAMILY = replace(
    llama.FAMILY,
    name="qwen2",
    model_type="qwen2",
    architectures={"Qwen2ForCausalLM": "causal_lm", "Qwen2Model": "none"},
    keys={name: key for name, key in llama.KEYS.items() if name != "head_dim"},
    defaults={**llama.DEFAULTS, "context_length": 32768},
    fixed={
        **llama.FIXED,
        "qkv_bias": True,
        "out_bias": False,
        "feed_forward_bias": False,
        "sliding_window": None,
    },
    required={"hidden_act": "silu", "attention_dropout": 0.0, "use_cache": True},
    read=_read,
    write=_write,
    cite="arXiv 2407.10671",
)
