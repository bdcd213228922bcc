"""A decoder's linear layers as matrices of the native library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from arriero.inference.runners import HeadKind
from arriero.models.decoder import Decoder
from arriero.models.layers.block import Block
from arriero.models.layers.linear import Linear
from arriero.models.layers.quantized import QuantizedLinear
from arriero.native.matrices import (
    GROUP,
    NativeMatrix,
    dense,
    low_bit,
    low_bit_packed,
    part_of,
    why_not_low_bit,
)

_DENSE = (torch.float32, torch.bfloat16)
_INT8_MAX = 127


@dataclass(frozen=True)
class BlockMatrices:
    """Those of one block; lists hold one matrix, or several where they cannot be laid together without a copy."""

    qkv: list[NativeMatrix]
    out: NativeMatrix
    up: list[NativeMatrix]
    down: NativeMatrix

    @classmethod
    def of(cls, block: Block, lean: bool = False) -> BlockMatrices:
        """Packs low-bit weights; dense ones stay where they are.

        Args:
            lean: the layers keep their low-bit codes in the matrices' memory alone.
        """
        attention, inner = block.attention, block.feed_forward
        up = [inner.up_proj] if inner.gate_proj is None else [inner.gate_proj, inner.up_proj]
        qkv, out, down = (
            [attention.q_proj, attention.k_proj, attention.v_proj],
            attention.o_proj,
            inner.down_proj,
        )
        made = cls(joined(qkv), matrix_of(out), joined(up), matrix_of(down))
        if lean:
            for layers, matrices in (
                (qkv, made.qkv),
                ([out], [made.out]),
                (up, made.up),
                ([down], [made.down]),
            ):
                _hand_over(layers, matrices)
        return made


def reason_against(model: Decoder) -> str | None:
    """Why the linear layers cannot be native matrices; None where they can."""
    for name, layer in model.blocks.named_modules():
        reason = _reason(layer) if isinstance(layer, nn.Linear | QuantizedLinear) else None
        if reason is not None:
            return f"blocks.{name}: {reason}"
    table = model.head_table()[0]
    return None if table.dtype in _DENSE else f"a head in {table.dtype} has no native product"


def is_low_bit(model: Decoder) -> bool:
    """Every matrix of the blocks has low-bit weights."""
    layers = [m for m in model.blocks.modules() if isinstance(m, nn.Linear | QuantizedLinear)]
    return all(isinstance(layer, QuantizedLinear) for layer in layers)


def matrix_of(layer: nn.Module) -> NativeMatrix:
    """One layer's matrix."""
    if isinstance(layer, QuantizedLinear):
        return low_bit_packed(
            layer.weight_packed, layer.in_features, layer.weight_scale, layer.scheme.bits, layer.bias
        )
    assert isinstance(layer, Linear)
    return dense(layer.weight, layer.bias)


def joined(layers: Sequence[nn.Module]) -> list[NativeMatrix]:
    """Layers that read the same input: one matrix where all are packed anew in one way, else one each."""
    quantised = [layer for layer in layers if isinstance(layer, QuantizedLinear)]
    ways = {(layer.scheme.bits, layer.weight_scale.shape[1], layer.in_features) for layer in quantised}
    if len(quantised) < len(layers) or len(ways) > 1:
        return [matrix_of(layer) for layer in layers]
    bits, _, columns = ways.pop()
    packed = torch.cat([layer.weight_packed for layer in quantised])
    scales = torch.cat([layer.weight_scale for layer in quantised])
    return [low_bit_packed(packed, columns, scales, bits, _biases(quantised))]


def _hand_over(layers: Sequence[nn.Module], matrices: Sequence[NativeMatrix]) -> None:
    """Let quantised layers keep the matrices' memory for their codes, where it can be cut between them."""
    first = 0
    for number, layer in enumerate(layers):
        if not isinstance(layer, QuantizedLinear):
            continue
        alone = len(matrices) == len(layers)
        part = part_of(
            matrices[number if alone else 0], 0 if alone else first, layer.out_features, layer.bias
        )
        first += layer.out_features
        if part is not None:
            layer.keep_tiles(part)


def head_matrix(weight: Tensor, bias: Tensor | None, head: HeadKind) -> NativeMatrix:
    """The head [vocab_size, d_model]: as it is, or as int8 codes ``round(w / scale)`` with ``scale = amax / 127`` of
    each 32 inputs (of each row, where 32 does not divide it)."""
    weight = weight.detach()
    if head == "as_is":
        return dense(weight, bias)
    rows, columns = weight.shape
    width = GROUP if columns % GROUP == 0 else columns
    codes = torch.empty(rows, columns, dtype=torch.int8)
    scales = torch.empty(rows, columns // width)
    for first in range(0, rows, 4096):  # little memory beside the codes
        part = weight[first : first + 4096].float().view(-1, columns // width, width)
        scale = part.abs().amax(-1) / _INT8_MAX
        code = torch.round(part / scale.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(-1))
        codes[first : first + 4096] = code.view(-1, columns).to(torch.int8)
        scales[first : first + 4096] = scale
    return low_bit(codes, scales, 8, bias)


def same_activations(a: NativeMatrix, b: NativeMatrix) -> bool:
    """Both read their input in the same form (``ar_same_scratch``)."""
    return (a.kind, a.k) == (b.kind, b.k)


def _biases(layers: Sequence[QuantizedLinear]) -> Tensor | None:
    if all(layer.bias is None for layer in layers):
        return None
    device = layers[0].weight_scale.device
    return torch.cat([
        torch.zeros(layer.out_features, device=device) if layer.bias is None else layer.bias.float()
        for layer in layers
    ])  # fmt: skip


def _reason(layer: nn.Module) -> str | None:
    if type(layer) is QuantizedLinear:
        groups = layer.weight_scale.shape[1]
        return why_not_low_bit(layer.scheme.bits, layer.in_features, groups) or None
    if type(layer) is not Linear:
        return f"{type(layer).__name__} has no native product"
    return None if layer.weight.dtype in _DENSE else f"weights in {layer.weight.dtype} have no native product"
