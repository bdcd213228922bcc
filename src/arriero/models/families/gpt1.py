"""GPT-1: GPT-2 with the norms after the branches and none at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arriero.models.decoder_config import DecoderConfig
from arriero.models.families import gpt2

_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}
"""OpenAI's first code called the tanh approximation "gelu"."""


def _read(values: dict[str, Any]) -> dict[str, Any]:
    name = values.get("afn", "gelu")
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation '{name}' is not one of a GPT-1: {', '.join(_ACTIVATIONS)}")
    return {**gpt2.read_shape(values), "activation": _ACTIVATIONS[name]}


def _write(config: DecoderConfig) -> dict[str, Any]:
    theirs = {ours: name for name, ours in reversed(_ACTIVATIONS.items())}
    if config.d_ff != 4 * config.d_model:
        raise ValueError("the feed-forward layer of a GPT-1 is four times as wide as the model")
    return {"afn": theirs[config.activation], **gpt2.write_shape(config)}


FAMILY = replace(
    gpt2.FAMILY,
    name="gpt1",
    model_type="openai-gpt",
    architectures={"OpenAIGPTLMHeadModel": "causal_lm", "OpenAIGPTModel": "none"},
    defaults={**gpt2.DEFAULTS, "vocab_size": 40478, "context_length": 512},
    fixed={**gpt2.FIXED, "arrangement": "post", "final_norm": False, "tie_embeddings": True},
    required={},
    modules={"embedding": "tokens_embed", "positions": "positions_embed", **gpt2.BLOCK},
    ignored=(".attn.bias", "position_ids"),
    read=_read,
    write=_write,
    cite="Radford et al. 2018",
)
