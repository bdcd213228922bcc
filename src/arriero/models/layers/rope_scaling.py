"""Rotary frequencies stretched for longer contexts: linear, dynamic NTK, YaRN, Llama 3.1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arriero.models.decoder_config import RopeScaling


def scaled_frequencies(
    width: int, theta: float, scaling: RopeScaling | None, length: int
) -> tuple[Tensor, float]:
    """Angle of a step for each pair of dimensions, float32 [width / 2], and the factor of cosines and sines.

    Args:
        width: dimensions that turn.
        length: tokens of the sequence; only the dynamic kind looks at it.
    """
    if scaling is None:
        return _frequencies(width, theta), 1.0
    if scaling.kind == "linear":
        return _frequencies(width, theta) / scaling.factor, 1.0
    if scaling.kind == "dynamic":
        return _frequencies(width, _dynamic_theta(width, theta, scaling, length)), 1.0
    if scaling.kind == "yarn":
        return _yarn(width, theta, scaling), yarn_attention_factor(scaling)
    return _llama3(_frequencies(width, theta), scaling), 1.0


def _frequencies(width: int, theta: float) -> Tensor:
    return 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)


def _dynamic_theta(width: int, theta: float, scaling: RopeScaling, length: int) -> float:
    """NTK-aware base (u/bloc97, u/emozilla 2023): slow pairs are stretched to the length at hand, fast ones hardly."""
    original = scaling.original_context_length or length
    stretch = scaling.factor * max(length, original) / original - (scaling.factor - 1)
    return float(theta * stretch ** (width / (width - 2)))


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Llama 3.1 (arXiv 2407.21783): wavelengths beyond the old context divided, short ones kept, a ramp between."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    turns = (scaling.original_context_length or 1) * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling.factor + kept * frequencies


def _yarn(width: int, theta: float, scaling: RopeScaling) -> Tensor:
    """YaRN's "NTK by parts" (arXiv 2309.00071, section 3.2)."""
    original = scaling.original_context_length or 1

    def pair_that_turns(turns: float) -> float:
        return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast), pair_that_turns(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    span = (high - low) or 0.001
    divided = ((torch.arange(width // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    frequencies = _frequencies(width, theta)
    return frequencies / scaling.factor * divided + frequencies * (1 - divided)


def yarn_attention_factor(scaling: RopeScaling) -> float:
    """Temperature of attention for the stretched context (equation 22), unless the configuration gives one."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
