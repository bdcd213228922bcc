"""Symmetric round-to-nearest with a search for the clip that costs least, without any data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.models.decoder import Decoder
from arriero.models.layers.packing import pack
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, quantizable, replace_layer

CLIP_RATIOS = tuple(1.0 - 0.025 * step for step in range(17))
"""Tried largest values, as shares of the group's largest magnitude: 1.0 down to 0.6."""
WEIGHTS_PER_BLOCK = 1 << 20
"""Weights worked on at once; bounds the memory of the search."""


@dataclass(frozen=True)
class Rounded:
    """A quantised weight.

    Attributes:
        codes: int8 [N, K].
        scale: [N, groups], in the dtype it will be stored in.
        relative_error: ||W - codes * scale|| / ||W|| (Frobenius).
    """

    codes: Tensor
    scale: Tensor
    relative_error: float


def round_weight(
    weight: Tensor, scheme: WeightScheme, scale_dtype: torch.dtype, where: str = "a layer"
) -> Rounded:
    """Quantise ``weight`` [N, K] to ``codes * scale``, codes in [-2^(b-1), 2^(b-1) - 1].

    For each group the scale is, of :data:`CLIP_RATIOS`, the one with the least squared error; codes are worked
    out with the scale as it is stored (rounded to ``scale_dtype``).

    Raises:
        ArrieroError: a weight is not finite, or the scheme's groups do not fit; ``where`` names the layer.
    """
    rows, columns = weight.shape
    groups = scheme.groups(columns, where)
    if not torch.isfinite(weight).all():
        raise ArrieroError(f"{where} has weights that are not finite; the model cannot be quantised")
    codes = torch.empty(rows, columns, dtype=torch.int8)
    scale = torch.empty(rows, groups, dtype=scale_dtype)
    squared_error, squared_norm = 0.0, 0.0
    step = max(1, WEIGHTS_PER_BLOCK // columns)
    for start in range(0, rows, step):
        block = weight[start : start + step].float().view(-1, groups, columns // groups)
        block_codes, block_scale, error = _round_groups(block, scheme, scale_dtype)
        codes[start : start + step] = block_codes.flatten(1)
        scale[start : start + step] = block_scale.squeeze(2)
        squared_error += error
        squared_norm += block.square().sum().item()
    return Rounded(codes, scale, (squared_error / squared_norm) ** 0.5 if squared_norm else 0.0)


def _round_groups(groups: Tensor, scheme: WeightScheme, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    """Groups [N, G, k] float32 -> codes int8 [N, G, k], scales [N, G, 1], summed squared error."""
    largest = groups.abs().amax(dim=2, keepdim=True)
    best_error = torch.full_like(largest, torch.inf)
    best_scale = torch.ones_like(largest)
    for ratio in CLIP_RATIOS:
        scale = _storable(largest * (ratio / scheme.largest), dtype)
        error = (_encode(groups, scale, scheme).mul_(scale).sub_(groups)).square_().sum(dim=2, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    codes = _encode(groups, best_scale, scheme).to(torch.int8)
    return codes, best_scale.to(dtype), best_error.sum().item()


def _storable(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The scale as it will be read back; 1 where the group is all zero (or too small to have a scale)."""
    stored = scale.to(dtype).float()
    return torch.where(stored > torch.finfo(torch.float32).tiny, stored, torch.ones_like(stored))


def _encode(groups: Tensor, scale: Tensor, scheme: WeightScheme) -> Tensor:
    return (groups / scale).round_().clamp_(-scheme.largest - 1, scheme.largest)


def quantize_model(
    model: Decoder,
    scheme: WeightScheme,
    scale_dtype: torch.dtype,
    each: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Quantise the linear layers of the blocks in place; embeddings, norms and head stay.

    Args:
        each: called after every layer with the weights done so far and their total.

    Returns:
        Mean relative weight error by kind of layer (``q_proj`` ...).

    Raises:
        ArrieroError: a layer that the scheme's groups do not fit, or whose weights are not finite.
    """
    layers = quantizable(model)
    total, done = sum(layer.weight.numel() for layer in layers.values()), 0
    errors: dict[str, list[float]] = {}
    for name, layer in layers.items():
        rounded = round_weight(layer.weight.detach(), scheme, scale_dtype, where=name)
        biased = layer.bias is not None
        quantised = QuantizedLinear(layer.in_features, layer.out_features, scheme, where=name, bias=biased)
        if biased:
            quantised.bias = layer.bias.detach().to(scale_dtype)
        quantised.weight_packed.copy_(pack(rounded.codes, scheme.bits))
        quantised.weight_scale = rounded.scale
        replace_layer(model, name, quantised)
        errors.setdefault(name.rpartition(".")[2], []).append(rounded.relative_error)
        done += layer.weight.numel()
        each(done, total)
    return {kind: sum(values) / len(values) for kind, values in errors.items()}
