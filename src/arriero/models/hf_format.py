"""Hugging Face's names for a Llama: configuration keys and tensor names, both as tables."""

from __future__ import annotations

from typing import Any

from arriero.errors import ArrieroError
from arriero.models.config import DecoderConfig
from arriero.models.layers.quantized import WeightScheme

ARCHITECTURE = "LlamaForCausalLM"

CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "d_ff": "intermediate_size",
    "context_length": "max_position_embeddings",
    "norm_eps": "rms_norm_eps",
    "tie_embeddings": "tie_word_embeddings",
    "init_std": "initializer_range",
}
"""Our field -> Hugging Face's. The rotary base has two homes and is handled apart."""

HF_DEFAULTS = {"tie_embeddings": False, "norm_eps": 1e-6, "init_std": 0.02, "rope_theta": 10000.0}
"""What transformers' LlamaConfig takes when a key is absent."""

MODULES = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward.gate_proj": "mlp.gate_proj",
    "feed_forward.up_proj": "mlp.up_proj",
    "feed_forward.down_proj": "mlp.down_proj",
}
"""Our module -> Hugging Face's; inside blocks both follow ``blocks.N.`` and ``model.layers.N.``."""

_MUST_BE = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}


def hf_module(ours: str) -> str:
    """``blocks.3.attention.q_proj`` -> ``model.layers.3.self_attn.q_proj``."""
    if ours.startswith("blocks."):
        _, layer, module = ours.split(".", 2)
        return f"model.layers.{layer}.{MODULES[module]}"
    return MODULES[ours]


def hf_tensor(ours: str) -> str:
    """Name of a tensor: the module's name in Hugging Face's terms, and the same last part.

    Raises:
        ArrieroError: a tensor that has no place in such a folder (an adapter that was not merged).
    """
    module, _, leaf = ours.rpartition(".")
    try:
        return f"{hf_module(module)}.{leaf}"
    except KeyError:
        raise ArrieroError(
            f"tensor {ours} has no place in a Hugging Face Llama folder; merge the adapters before saving"
        ) from None


def config_to_hf(config: DecoderConfig, dtype: str, ids: dict[str, int | list[int] | None]) -> dict[str, Any]:
    """``config.json`` that transformers 4 and 5 read. ``ids``: bos_token_id, eos_token_id, pad_token_id."""
    values = {theirs: getattr(config, ours) for ours, theirs in CONFIG_KEYS.items()}
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        **values,
        "rope_theta": config.rope_theta,  # transformers 4
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},  # transformers 5
        **_MUST_BE,
        "attention_dropout": 0.0,
        "use_cache": True,
        **ids,
        "torch_dtype": dtype,  # transformers 4, vLLM
        "dtype": dtype,
    }


def config_from_hf(values: dict[str, Any], where: str) -> DecoderConfig:
    """Our configuration of a ``config.json``.

    Raises:
        ArrieroError: another architecture, or a variant that this decoder does not have.
    """
    architectures = values.get("architectures") or [ARCHITECTURE]
    if values.get("model_type") != "llama" or architectures != [ARCHITECTURE]:
        raise ArrieroError(f"{where}: is a {architectures[0]}; Arriero reads {ARCHITECTURE}")
    for key, needed in _MUST_BE.items():
        if values.get(key, needed) != needed:
            raise ArrieroError(f"{where}: {key} is {values[key]!r}; Arriero's decoder has only {needed!r}")
    ours = {field: values[theirs] for field, theirs in CONFIG_KEYS.items() if values.get(theirs) is not None}
    ours.setdefault("n_kv_heads", ours.get("n_heads"))
    return DecoderConfig.parse({**HF_DEFAULTS, **ours, **_rope_theta(values, where)}, where)


def _rope_theta(values: dict[str, Any], where: str) -> dict[str, float]:
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ArrieroError(
            f"{where}: rotary scaling '{kind}' is not one that Arriero's decoder has; only 'default'"
        )
    theta = rope.get("rope_theta", values.get("rope_theta"))
    return {} if theta is None else {"rope_theta": theta}


def scheme_to_hf(scheme: WeightScheme) -> dict[str, Any]:
    """``quantization_config`` of compressed-tensors, format "pack-quantized", weights only."""
    weights = {
        "num_bits": scheme.bits,
        "type": "int",
        "symmetric": True,
        "strategy": "channel" if scheme.group_size is None else "group",
        "group_size": scheme.group_size,
        "dynamic": False,
        "actorder": None,
        "block_structure": None,
        "observer": "minmax",
        "observer_kwargs": {},
    }
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "global_compression_ratio": None,
    }


def scheme_from_hf(values: dict[str, Any], where: str) -> WeightScheme | None:
    """The scheme that a ``config.json`` declares, or None for plain weights.

    Raises:
        ArrieroError: a kind of quantisation that Arriero does not read.
    """
    declared = values.get("quantization_config")
    if declared is None:
        return None
    readable = "compressed-tensors 'pack-quantized', symmetric int4 or int8 weights in every linear layer but lm_head"
    try:
        (group,) = declared["config_groups"].values()
        weights = group["weights"]
        scheme = WeightScheme(bits=weights["num_bits"], group_size=weights.get("group_size"))
        strategy = "channel" if scheme.group_size is None else "group"
        fits = (
            declared["quant_method"] == "compressed-tensors"
            and declared["format"] == "pack-quantized"
            and group["targets"] == ["Linear"]
            and declared.get("ignore") == ["lm_head"]
            and not group.get("input_activations")
            and weights["type"] == "int"
            and weights.get("symmetric", True)
            and weights["strategy"] == strategy
            and not weights.get("actorder")
            and scheme.bits in WeightScheme.BITS
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise ArrieroError(f"{where}: this quantization_config is not one that Arriero reads ({readable})")
    return scheme
