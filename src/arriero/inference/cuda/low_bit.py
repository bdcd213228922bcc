"""Products with int4 and int8 weights that are taken out of their codes in registers: a kernel in Triton.

``y[m, n] = sum over groups g of scale[n, g] * (sum of x[m, k] * code[n, k] for k in g) + bias[n]``. Codes are exact in
bfloat16, so nothing is rounded but the sums, which are float32. Activations stay as they are (weight-only).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from arriero.inference.cuda.paged_attention import product_type
from arriero.models.layers.quantized import QuantizedLinear
from arriero.products import linear

MOST_ROWS = 64
"""More rows than these are multiplied by the dequantised weight: then arithmetic counts, not what is read."""

_ROWS, _OUTPUTS, _INPUTS = 16, 32, 128
_LEAST_INPUTS = 32
"""Of a tile: ``tl.dot`` wants 16 at least, and an int4 tile is done in two halves, one for each half of a byte."""


@triton.jit
def _product(  # type: ignore[no-untyped-def]
    x, packed, scales, bias, y, rows, outputs, inputs, x_row, packed_row, groups, group_size,
    BITS: tl.constexpr, BIASED: tl.constexpr, PRODUCTS: tl.constexpr,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """A program for each tile of ``y``; ``packed`` is read as bytes, the lower code in a byte's lower half."""
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    here, there = m < rows, n < outputs
    codes: tl.constexpr = 8 // BITS  # in a byte
    byte = tl.arange(0, INPUTS // codes)
    total = tl.zeros([ROWS, OUTPUTS], tl.float32)
    for start in range(0, inputs, INPUTS):
        k = start + byte * codes
        at = n[None, :].to(tl.int64) * packed_row + (start // codes + byte)[:, None]
        word = tl.load(packed + at, mask=(k < inputs)[:, None] & there[None, :], other=0).to(tl.int32)
        spots = x + m[:, None].to(tl.int64) * x_row + k[None, :]
        part = tl.load(spots, mask=here[:, None] & (k < inputs)[None, :], other=0.0).to(PRODUCTS)
        if BITS == 8:
            found = tl.dot(part, (word - 128).to(tl.float32).to(PRODUCTS), input_precision="ieee")
        else:
            low = ((word & 15) - 8).to(tl.float32).to(PRODUCTS)
            high = ((word >> 4) - 8).to(tl.float32).to(PRODUCTS)
            odd = tl.load(spots + 1, mask=here[:, None] & (k + 1 < inputs)[None, :], other=0.0).to(PRODUCTS)
            found = tl.dot(part, low, input_precision="ieee")
            found = tl.dot(odd, high, found, input_precision="ieee")
        scale = tl.load(scales + n * groups + start // group_size, mask=there, other=0.0).to(tl.float32)
        total += found * scale[None, :]
    if BIASED:
        total += tl.load(bias + n, mask=there, other=0.0).to(tl.float32)[None, :]
    out = y + m[:, None].to(tl.int64) * outputs + n[None, :]
    tl.store(out, total.to(y.dtype.element_ty), mask=here[:, None] & there[None, :])


def takes(layer: QuantizedLinear) -> bool:
    """True where the kernel knows the layer's scheme: a tile of inputs must not reach over two groups."""
    group = layer.in_features // layer.weight_scale.shape[1]
    return layer.weight_scale.shape[1] == 1 or group % _LEAST_INPUTS == 0


def product(layer: QuantizedLinear, x: Tensor) -> Tensor:
    """What the layer gives for x [..., in]: [..., out] in the dtype of x.

    By the kernel for up to ``MOST_ROWS`` rows and schemes that it :func:`takes`, else by torch with the dequantised
    weight.
    """
    rows = x.reshape(-1, layer.in_features)
    if len(rows) > MOST_ROWS or not takes(layer):
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return linear(x, layer.dequantised(x.dtype), bias)
    return multiply(
        rows, layer.weight_packed, layer.weight_scale, layer.bias, layer.scheme.bits
    ).view(*x.shape[:-1], layer.out_features)  # fmt: skip


def multiply(x: Tensor, packed: Tensor, scales: Tensor, bias: Tensor | None, bits: int) -> Tensor:
    """The kernel: x [M, K], packed int32 [N, ceil(K bits / 32)], scales [N, groups], bias [N] -> [M, N] in x's dtype."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    (m, k), (n, groups) = x.shape, scales.shape
    codes = packed.contiguous().view(torch.uint8)
    y = torch.empty(m, n, device=x.device, dtype=x.dtype)
    grid = (triton.cdiv(n, _OUTPUTS), triton.cdiv(m, _ROWS))
    if not m:
        return y
    _product[grid](
        x, codes, scales.contiguous(), scales if bias is None else bias, y,
        m, n, k, x.stride(0), codes.shape[1], groups, k // groups,
        BITS=bits, BIASED=bias is not None, PRODUCTS=product_type(x.dtype),
        ROWS=_ROWS, OUTPUTS=_OUTPUTS, INPUTS=tile_of(k, groups), num_warps=4,
    )  # fmt: skip
    return y


def tile_of(inputs: int, groups: int) -> int:
    """Inputs of a tile: a power of two that divides a group, where there is more than one."""
    if groups == 1:
        return _INPUTS
    group = inputs // groups
    return min(_INPUTS, group & -group)
