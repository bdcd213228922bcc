"""Dense packing of small signed integers into 32-bit words, as compressed-tensors' "pack-quantized" has it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def packed_columns(columns: int, bits: int) -> int:
    """32-bit words a row of ``columns`` codes takes."""
    return -(-columns * bits // 32)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Signed codes [N, K] int8 of 4 or 8 bits -> int32 [N, ceil(K bits / 32)], lowest code in the lowest bits.

    Codes are stored with an offset of 2^(bits-1); the bits after the last code are zero.
    """
    rows, columns = codes.shape
    unsigned = (codes.to(torch.int16) + (1 << (bits - 1))).to(torch.uint8)
    unsigned = F.pad(unsigned, (0, packed_columns(columns, bits) * (32 // bits) - columns))
    if bits == 4:
        unsigned = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
    return unsigned.contiguous().view(torch.int32).view(rows, -1)


def unpack(packed: Tensor, bits: int, columns: int) -> Tensor:
    """Inverse of :func:`pack`: int32 [N, ceil(K bits / 32)] -> int8 [N, K]."""
    data = packed.contiguous().view(torch.uint8)
    if bits == 4:
        data = torch.stack((data & 0xF, data >> 4), dim=-1).flatten(1)
        return data[:, :columns].view(torch.int8) - 8
    # 8 bits: taking 128 away is the same as turning the highest bit
    return (data[:, :columns] ^ 0x80).view(torch.int8)
