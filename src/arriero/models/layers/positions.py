"""Places of tokens that no weight has to learn: sinusoids and ALiBi's slopes."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoidal(length: int, width: int, interleaved: bool = False) -> Tensor:
    """Sines and cosines of ``position / 10000^(2i/width)``, float32 [length, width] (Vaswani et al. 2017, section 3.5).

    Args:
        interleaved: sine and cosine by turns, as the paper has it; else all sines before all cosines, as Marian has it.
    """
    pairs = (width + 1) // 2
    rates = 10000.0 ** (-2.0 * torch.arange(pairs, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), rates)
    table = torch.empty(length, width, dtype=torch.float32)
    if interleaved:
        table[:, 0::2], table[:, 1::2] = angles.sin(), angles.cos()[:, : width // 2]
    else:
        table[:, :pairs], table[:, pairs:] = angles.sin(), angles.cos()[:, : width // 2]
    return table


def alibi_slopes(n_heads: int) -> Tensor:
    """Penalty of each head for a step of distance, float32 [n_heads] (Press et al., arXiv 2108.12409, section 3).

    Powers of 2^(-8/n) for a power of two n; for other counts the slopes of the next smaller power, then every second
    slope of twice that power.
    """
    closest = 1 << (n_heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * (i + 1) / closest) for i in range(closest)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / closest) for i in range(n_heads - closest)]
    return torch.tensor(slopes, dtype=torch.float32)
