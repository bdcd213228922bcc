"""Rotary positions in GGUF: base and scaling between its metadata and config.json's values.

llama.cpp knows "linear" and "yarn" by metadata. Llama 3.1's scaling is stored as its result: ``rope_freqs.weight``
holds, for every pair of a head, the factor by which the frequency is divided. config.json wants the four figures that
made it, so they are worked out again and believed only if they give the same factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from arriero.errors import ArrieroError
from arriero.models.weight_source import short

FREQUENCIES = "rope_freqs.weight"
_SAME = 2e-5
"""Relative difference up to which two factors count as the same float32, written by different programs."""


def llama3_factors(head_dim: int, theta: float, rope: Mapping[str, Any]) -> list[float]:
    """Divisors of the head_dim/2 rotary frequencies in Llama 3.1's scaling (transformers, modeling_rope_utils)."""
    factor, original = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for index in range(0, head_dim, 2):
        turns = original / (2 * math.pi * theta ** (index / head_dim))  # in the original context
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def read_rope(
    metadata: Mapping[str, Any], arch: str, head_dim: int, factors: Sequence[float] | None, where: str
) -> dict[str, Any]:
    """``rope_theta`` and, where there is scaling, ``rope_scaling`` of config.json.

    Args:
        factors: the values of :data:`FREQUENCIES`, if the file has it.

    Raises:
        ArrieroError: a kind of scaling that Arriero does not have, or one that cannot be read.
    """
    prefix = f"{arch}.rope."
    theta = _positive(metadata.get(f"{prefix}freq_base", 10000.0), f"{prefix}freq_base", where)
    if factors is not None:
        return {"rope_theta": theta, "rope_scaling": _fit_llama3(factors, head_dim, theta, where)}
    kind = metadata.get(f"{prefix}scaling.type", "none")
    factor = metadata.get(f"{prefix}scaling.factor", metadata.get(f"{prefix}scale_linear"))
    if kind == "none" and f"{prefix}scale_linear" in metadata:
        kind = "linear"
    if kind == "none" or factor in (None, 0, 0.0) or (kind == "linear" and factor == 1.0):
        return {"rope_theta": theta}
    if kind not in ("linear", "yarn"):
        raise ArrieroError(f"{where}: rotary scaling '{short(kind)}' is not known; linear and yarn are")
    rope: dict[str, Any] = {"rope_type": kind, "factor": _positive(factor, f"{prefix}scaling.factor", where)}
    if kind == "yarn":
        rope |= _read_yarn(metadata, f"{prefix}scaling.", rope["factor"], where)
    return {"rope_theta": theta, "rope_scaling": rope}


def _read_yarn(metadata: Mapping[str, Any], prefix: str, factor: float, where: str) -> dict[str, Any]:
    rope: dict[str, Any] = {}
    original = metadata.get(f"{prefix}original_context_length")
    if type(original) is int and original > 0:
        rope["original_max_position_embeddings"] = original
    for key in ("beta_fast", "beta_slow"):
        if f"{prefix}yarn_{key}" in metadata:
            rope[key] = _positive(metadata[f"{prefix}yarn_{key}"], f"{prefix}yarn_{key}", where)
    attention = metadata.get(f"{prefix}yarn_attn_factor", metadata.get(f"{prefix}attn_factor"))
    if attention is not None:
        # ggml multiplies its own 1 + 0.1 ln(factor) with this; config.json holds the product
        rope["attention_factor"] = _positive(attention, f"{prefix}attn_factor", where) * _yarn_magnitude(
            factor
        )
    return rope


def _yarn_magnitude(factor: float) -> float:
    return 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0


def write_rope(
    values: Mapping[str, Any], arch: str, head_dim: int, where: str
) -> tuple[dict[str, Any], list[float] | None]:
    """Metadata of the rotary positions of a config.json, and the values of :data:`FREQUENCIES` if it needs them.

    Raises:
        ArrieroError: a scaling that GGUF cannot express.
    """
    rope = dict(values.get("rope_parameters") or values.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    theta = float(rope.get("rope_theta", values.get("rope_theta", 10000.0)))
    prefix = f"{arch}.rope."
    found: dict[str, Any] = {f"{prefix}dimension_count": head_dim, f"{prefix}freq_base": theta}
    if kind == "default":
        return found, None
    if kind == "llama3":
        return found, llama3_factors(head_dim, theta, rope)
    if kind not in ("linear", "yarn"):
        raise ArrieroError(
            f"{where}: rotary scaling '{kind}' cannot be written as GGUF; linear, yarn and llama3 can"
        )
    found |= {f"{prefix}scaling.type": kind, f"{prefix}scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        found |= _write_yarn(rope, values, f"{prefix}scaling.", where)
    return found, None


def _write_yarn(
    rope: Mapping[str, Any], values: Mapping[str, Any], prefix: str, where: str
) -> dict[str, Any]:
    for key in ("mscale", "mscale_all_dim"):
        if rope.get(key):
            raise ArrieroError(f"{where}: yarn's {key} cannot be written as GGUF for this architecture")
    if rope.get("truncate", True) is not True:
        raise ArrieroError(f"{where}: yarn without truncation cannot be written as GGUF")
    original = rope.get("original_max_position_embeddings") or values["max_position_embeddings"]
    found: dict[str, Any] = {f"{prefix}original_context_length": int(original)}
    for key in ("beta_fast", "beta_slow"):
        if rope.get(key) is not None:
            found[f"{prefix}yarn_{key}"] = float(rope[key])
    if rope.get("attention_factor") is not None:
        own = _yarn_magnitude(float(rope["factor"]))
        found[f"{prefix}yarn_attn_factor"] = float(rope["attention_factor"]) / own
    return found


def _fit_llama3(factors: Sequence[float], head_dim: int, theta: float, where: str) -> dict[str, Any]:
    """The four figures behind stored factors: ``1/f`` is linear in the turns of the frequencies in between."""
    refused = ArrieroError(f"{where}: {FREQUENCIES} is not Llama 3.1's scaling of the rotary frequencies")
    if len(factors) != head_dim // 2 or not all(math.isfinite(f) and f > 0 for f in factors):
        raise refused
    factor = _rounded(max(factors))
    between = [i for i, f in enumerate(factors) if 1 + _SAME < f < factor * (1 - _SAME)]
    periods = [2 * math.pi * theta ** (2 * i / head_dim) for i in range(len(factors))]
    smooth = {i: (1 / factors[i] - 1 / factor) / (1 - 1 / factor) for i in between}
    tried = [(1.0, 4.0, 8192)]
    if between:  # a single frequency fixes the context, given Meta's low and high
        tried.append((1.0, 4.0, round((1.0 + 3.0 * smooth[between[0]]) * periods[between[0]])))
    if len(between) > 1:  # two fix low and high, as multiples of the context: only the ratios matter
        first, last = between[0], between[-1]
        slope = (smooth[first] - smooth[last]) / (1 / periods[first] - 1 / periods[last])
        low = (slope / periods[first] - smooth[first]) * 8192 / slope
        high = low + 8192 / slope
        tried += [(_rounded(low), _rounded(high), 8192), (low, high, 8192)]
    for low, high, original in tried:
        rope = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original,
        }
        if 0 < low < high and _gives(rope, factors, head_dim, theta):
            return rope
    raise refused


def _gives(rope: Mapping[str, Any], factors: Sequence[float], head_dim: int, theta: float) -> bool:
    return all(
        abs(ours - theirs) <= _SAME * theirs
        for ours, theirs in zip(llama3_factors(head_dim, theta, rope), factors, strict=True)
    )


def _rounded(value: float) -> float:
    """The nearest number of few digits, if it is near: stored factors are float32."""
    short = float(f"{value:.4g}")
    return short if abs(short - value) <= _SAME * abs(value) else value


def _positive(value: object, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise ArrieroError(f"{where}: {key} is {short(value)}; it should be a number above zero")
    return float(value)
