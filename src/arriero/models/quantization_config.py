"""``quantization_config`` of ``config.json``: compressed-tensors' "pack-quantized", as this project writes it."""

from __future__ import annotations

from typing import Any

from arriero.errors import ArrieroError
from arriero.models.layers.quantized import WeightScheme


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
