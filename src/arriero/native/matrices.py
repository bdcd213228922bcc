"""Weights in the form that the native products read: tiles of 16 output rows for low-bit codes, dense ones as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.native.library import Matrix

TILE = 16
GROUP = 32
"""Inputs that share a scale in the activations; weight groups are whole multiples of it."""
_FP32, _BF16, _INT8, _INT4 = range(4)
_ROWS_AT_ONCE = 64 * TILE
"""Rows that are brought into tiles at a time, so that little memory is needed beside the tiles."""


@dataclass(frozen=True, eq=False)
class NativeMatrix:
    """A weight [n, k] as the C code reads it. The tensors own the memory; ``struct`` points into them."""

    n: int
    k: int
    kind: int
    group: int
    codes: Tensor
    scales: Tensor | None
    bias: Tensor | None
    struct: Matrix = field(init=False, repr=False)

    def __post_init__(self) -> None:
        scale_kind = int(self.scales is not None and self.scales.dtype == torch.bfloat16)
        struct = Matrix(
            self.kind, self.n, self.k, self.group, self.codes.data_ptr(),
            None if self.scales is None else self.scales.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(), scale_kind, 0,
        )  # fmt: skip
        object.__setattr__(self, "struct", struct)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """Copies get pointers of their own."""
        return NativeMatrix, (self.n, self.k, self.kind, self.group, self.codes, self.scales, self.bias)

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and scales: what a product with one row reads."""
        return self.codes.nbytes + (0 if self.scales is None else self.scales.nbytes)


def why_not_low_bit(bits: int, k: int, groups: int) -> str:
    """Why codes of such a scheme cannot become native tiles, in one line; empty where they can."""
    if bits not in (4, 8):
        return f"{bits}-bit codes have no native product; 4 and 8 have"
    if k < 1 or groups < 1 or k % groups:
        return f"{groups} scales do not divide rows of {k}"
    if groups > 1 and (k // groups) % GROUP:
        return (
            f"groups of {k // groups} inputs have no native product; multiples of {GROUP} and whole rows have"
        )
    return ""


def low_bit(codes: Tensor, scales: Tensor, bits: int, bias: Tensor | None = None) -> NativeMatrix:
    """Signed codes [n, k] int8 with scales [n, groups] -> tiles of 16 output rows.

    Raises:
        ArrieroError: there is no native product for such groups.
    """
    n, k = codes.shape
    return _low_bit(lambda first, last: codes[first:last], n, k, scales, bits, bias)


def low_bit_packed(
    packed: Tensor, k: int, scales: Tensor, bits: int, bias: Tensor | None = None
) -> NativeMatrix:
    """Dense int32 words [n, ceil(k bits / 32)] of offset codes, as compressed-tensors has them -> tiles.

    Raises:
        ArrieroError: there is no native product for such groups.
    """

    def rows(first: int, last: int) -> Tensor:
        data = packed[first:last].contiguous().view(torch.uint8)
        if bits == 4:
            data = torch.stack((data & 15, data >> 4), dim=-1).flatten(1)
            return data[:, :k].view(torch.int8) - 8
        return (data[:, :k] ^ 0x80).view(torch.int8)

    return _low_bit(rows, packed.shape[0], k, scales, bits, bias)


def part_of(matrix: NativeMatrix, first: int, count: int, bias: Tensor | None) -> NativeMatrix | None:
    """Rows ``first`` to ``first + count`` of low-bit tiles, in the same memory; None where they begin within a tile,
    or end within one that holds others' rows, too."""
    last = first + count
    if first % TILE or (last % TILE and last != matrix.n) or matrix.scales is None:
        return None
    tiles = slice(first // TILE, -(-last // TILE))
    return NativeMatrix(
        count, matrix.k, matrix.kind, matrix.group, matrix.codes[tiles], matrix.scales[tiles], _bias(bias)
    )


def dense(weight: Tensor, bias: Tensor | None = None) -> NativeMatrix:
    """A weight [n, k] of float32 or bfloat16 as it is: no copy where it is contiguous.

    Raises:
        ArrieroError: another dtype.
    """
    kinds = {torch.float32: _FP32, torch.bfloat16: _BF16}
    if weight.dtype not in kinds:
        raise ArrieroError(f"a {weight.dtype} weight has no native product; float32 and bfloat16 have")
    n, k = weight.shape
    return NativeMatrix(n, k, kinds[weight.dtype], k, weight.detach().contiguous(), None, _bias(bias))


def codes_of(matrix: NativeMatrix) -> Tensor:
    """The signed codes int8 [n, k] of low-bit tiles: the inverse of packing."""
    tiles = -(-matrix.n // TILE)
    data = matrix.codes.view(tiles, -1, 64)
    if matrix.kind == _INT4:
        data = torch.stack((data & 15, data >> 4), dim=2).flatten(1, 2) + 120  # 8 to 128
    signed = (data ^ 0x80).view(torch.int8)
    rows = signed.view(tiles, -1, TILE, 4).transpose(1, 2).reshape(tiles * TILE, -1)
    return rows[: matrix.n, : matrix.k].contiguous()


def _low_bit(
    rows: Callable[[int, int], Tensor], n: int, k: int, scales: Tensor, bits: int, bias: Tensor | None
) -> NativeMatrix:
    groups = scales.shape[1]
    reason = why_not_low_bit(bits, k, groups)
    if reason:
        raise ArrieroError(reason)
    tiles, padded = -(-n // TILE), -(-k // GROUP) * GROUP
    codes = torch.empty(tiles, TILE * padded * bits // 8, dtype=torch.uint8)
    for first in range(0, n, _ROWS_AT_ONCE):
        last = min(first + _ROWS_AT_ONCE, n)
        codes[first // TILE : -(-last // TILE)] = _tiles(rows(first, last), padded, bits)
    kind = _INT4 if bits == 4 else _INT8
    return NativeMatrix(n, k, kind, k // groups, codes, _scale_tiles(scales, tiles), _bias(bias))


def _tiles(codes: Tensor, padded: int, bits: int) -> Tensor:
    """Signed codes [rows, k] -> uint8 [tiles, bytes]: blocks of 16 rows x 4 inputs, for 4 bits two to a block."""
    more = -len(codes) % TILE
    codes = F.pad(codes, (0, padded - codes.shape[1], 0, more))
    blocks = codes.view(-1, TILE, padded // 4, 4).transpose(1, 2).contiguous().view(torch.uint8)
    if bits == 8:
        return (blocks ^ 0x80).view(len(codes) // TILE, -1)
    pairs = (blocks + 8).bitwise_and_(15).view(len(codes) // TILE, padded // 8, 2, 64)
    return (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).view(len(codes) // TILE, -1)


def _scale_tiles(scales: Tensor, tiles: int) -> Tensor:
    """[n, groups] -> [tiles, groups, 16], as bfloat16 where that holds every scale exactly."""
    exact = scales.detach().to(torch.float32)
    short = exact.to(torch.bfloat16)
    chosen = short if torch.equal(short.to(torch.float32), exact) else exact
    padded = F.pad(chosen, (0, 0, 0, tiles * TILE - len(chosen)))
    return padded.view(tiles, TILE, -1).transpose(1, 2).contiguous()


def _bias(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().to(torch.float32).contiguous()
