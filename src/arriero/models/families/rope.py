"""How Hugging Face's configurations say rotary positions: old keys (transformers 4) and new ones (5), both written."""

from __future__ import annotations

from typing import Any

from arriero.models.decoder_config import DecoderConfig, RopeScaling

ROPE_DEFAULTS = {"rope_theta": 10000.0}

_FIELDS = {
    "factor": "factor",
    "original_context_length": "original_max_position_embeddings",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
    "truncate": "truncate",
}
"""Our field -> theirs."""
_OF_KIND = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor", "original_context_length", "beta_fast", "beta_slow", "attention_factor", "truncate"),
    "llama3": ("factor", "original_context_length", "low_freq_factor", "high_freq_factor"),
}
_ASKS_FOR_MORE = ("linear", "dynamic")
"""Kinds whose max_position_embeddings is the context before it was stretched."""


def read_rope(values: dict[str, Any]) -> dict[str, Any]:
    """``rope_theta``, ``rope_scaling`` and ``context_length`` of a ``config.json``.

    Raises:
        ValueError: a kind of scaling that Arriero does not have.
    """
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    theta = rope.get("rope_theta", values.get("rope_theta"))
    found: dict[str, Any] = {} if theta is None else {"rope_theta": theta}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return found
    if kind not in _OF_KIND:
        raise ValueError(f"rotary scaling '{kind}' is not one that Arriero has; {', '.join(_OF_KIND)} are")
    scaling = {
        name: rope[key]
        for name, key in _FIELDS.items()
        if name in _OF_KIND[kind] and rope.get(key) is not None
    }
    if kind == "yarn" and "attention_factor" not in scaling:
        scaling |= _attention_factor(rope)
    stated = int(values.get("max_position_embeddings", 2048))
    original = int(scaling.get("original_context_length") or stated)
    scaling["original_context_length"] = original
    longest = stated if kind == "llama3" else max(stated, round(original * scaling.get("factor", 1.0)))
    return {**found, "rope_scaling": {"kind": kind, **scaling}, "context_length": longest}


def _attention_factor(rope: dict[str, Any]) -> dict[str, float]:
    """DeepSeek's two temperatures, whose quotient is the factor of cosines and sines."""
    import math

    if not (rope.get("mscale") and rope.get("mscale_all_dim")):
        return {}

    def temperature(m: float) -> float:
        return 0.1 * m * math.log(rope["factor"]) + 1.0 if rope["factor"] > 1 else 1.0

    return {"attention_factor": temperature(rope["mscale"]) / temperature(rope["mscale_all_dim"])}


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    """The keys of ``config.json`` for a configuration with rotary positions."""
    theta, scaling = config.rope_theta, config.rope_scaling
    if scaling is None:
        return {"rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    said = {_FIELDS[name]: getattr(scaling, name) for name in _OF_KIND[scaling.kind]}
    said = {"rope_type": scaling.kind, **{key: value for key, value in said.items() if value is not None}}
    keys = {"rope_theta": theta, "rope_scaling": said, "rope_parameters": {**said, "rope_theta": theta}}
    if scaling.kind in _ASKS_FOR_MORE:
        keys["max_position_embeddings"] = _original(scaling)
    return keys


def _original(scaling: RopeScaling) -> int:
    if scaling.original_context_length is None:
        raise ValueError(f"rotary scaling '{scaling.kind}' needs original_context_length to be written")
    return scaling.original_context_length
