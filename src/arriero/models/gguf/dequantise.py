"""Blocks of ggml's types to float32, in ggml's own order of operations, so that every bit agrees.

Source: ``dequantize_row_*`` in ``ggml-quants.c``. A block is a row of bytes here: [blocks, bytes of a block].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from arriero.models.gguf.block_types import BlockType

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def decode(raw: Bytes, kind: BlockType) -> Tensor:
    """The values of whole blocks, flat: float32, or float16 and bfloat16 as they are stored."""
    if kind.name == "F32":
        return torch.from_numpy(raw.view("<f4"))
    if kind.name == "F16":
        return torch.from_numpy(raw.view("<f2"))
    if kind.name == "BF16":
        return torch.from_numpy(raw.view("<i2")).view(torch.bfloat16)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # a damaged scale may be infinite; that is for the reader
        values = _DECODERS[kind.name](raw.reshape(-1, kind.bytes))
    return torch.from_numpy(values.reshape(-1))


def stored_dtype(kind: BlockType) -> torch.dtype:
    """dtype of what :func:`decode` gives."""
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(kind.name, torch.float32)


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte ``at`` of every block, as [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _split(packed: Bytes, group: int, bits: int) -> Bytes:
    """Fields of ``bits`` bits: from every ``group`` bytes first all lowest fields, then all next ones."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields = packed.reshape(len(packed), -1, 1, group) >> shifts
    return (fields & np.uint8(2**bits - 1)).reshape(len(packed), -1)


def _fifth_bits(blocks: Bytes, at: int) -> Bytes:
    """The 32 bits at byte ``at``, each as 16 or 0."""
    bits = np.unpackbits(np.ascontiguousarray(blocks[:, at : at + 4]), axis=1, bitorder="little")
    return bits << np.uint8(4)


def _q4_0(blocks: Bytes) -> Floats:
    codes = _split(blocks[:, 2:], 16, 4).astype(np.int8) - np.int8(8)
    return _half(blocks, 0) * codes.astype(np.float32)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _split(blocks[:, 4:], 16, 4).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    codes = (_split(blocks[:, 6:], 16, 4) | _fifth_bits(blocks, 2)).astype(np.int8) - np.int8(16)
    return _half(blocks, 0) * codes.astype(np.float32)


def _q5_1(blocks: Bytes) -> Floats:
    codes = _split(blocks[:, 8:], 16, 4) | _fifth_bits(blocks, 4)
    return _half(blocks, 0) * codes.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8).astype(np.float32) * _half(blocks, 0)


def _q2_k(blocks: Bytes) -> Floats:
    scales, minima = (blocks[:, :16] & np.uint8(15)), (blocks[:, :16] >> np.uint8(4))
    codes = _split(blocks[:, 16:80], 32, 2).reshape(len(blocks), 16, 16).astype(np.float32)
    return _affine(codes, _half(blocks, 80), scales, _half(blocks, 82), minima)


def _q3_k(blocks: Bytes) -> Floats:
    low = _split(blocks[:, 32:96], 32, 2)
    high = _split(blocks[:, :32], 32, 1)  # a set bit stands for no offset, a clear one for minus four
    codes = low.astype(np.int8) - ((high ^ np.uint8(1)) << np.uint8(2)).astype(np.int8)
    scales = _split(blocks[:, 96:104], 8, 4) | (_split(blocks[:, 104:108], 4, 2) << np.uint8(4))
    steps = _half(blocks, 108) * (scales.astype(np.int8) - np.int8(32)).astype(np.float32)
    return steps[:, :, None] * codes.reshape(len(blocks), 16, 16).astype(np.float32)


def _q4_k(blocks: Bytes) -> Floats:
    codes = _split(blocks[:, 16:], 32, 4).reshape(len(blocks), 8, 32).astype(np.float32)
    scales, minima = _six_bit_pairs(blocks[:, 4:16])
    return _affine(codes, _half(blocks, 0), scales, _half(blocks, 2), minima)


def _q5_k(blocks: Bytes) -> Floats:
    codes = _split(blocks[:, 48:], 32, 4) | (_split(blocks[:, 16:48], 32, 1) << np.uint8(4))
    scales, minima = _six_bit_pairs(blocks[:, 4:16])
    values = codes.reshape(len(blocks), 8, 32).astype(np.float32)
    return _affine(values, _half(blocks, 0), scales, _half(blocks, 2), minima)


def _q6_k(blocks: Bytes) -> Floats:
    low, high = _split(blocks[:, :128], 64, 4), _split(blocks[:, 128:192], 32, 2)
    codes = (low | (high << np.uint8(4))).astype(np.int8) - np.int8(32)
    steps = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return steps[:, :, None] * codes.reshape(len(blocks), 16, 16).astype(np.float32)


def _affine(codes: Floats, scale: Floats, scales: Bytes, minimum: Floats, minima: Bytes) -> Floats:
    """``(scale scales) codes - (minimum minima)`` for codes [blocks, groups, values of a group]."""
    steps, offsets = scale * scales.astype(np.float32), minimum * minima.astype(np.float32)
    return steps[:, :, None] * codes - offsets[:, :, None]


def _six_bit_pairs(packed: Bytes) -> tuple[Bytes, Bytes]:
    """Eight scales and eight minima of six bits each from 12 bytes: four low ones whole in bytes 0-3 (4-7); of the
    high ones the low nibbles in bytes 8-11 and the two top bits above those of the first four."""
    first, second, last = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    six, top = np.uint8(63), np.uint8(48)
    scales = np.concatenate([first & six, (last & np.uint8(15)) | ((first >> np.uint8(2)) & top)], axis=1)
    minima = np.concatenate([second & six, (last >> np.uint8(4)) | ((second >> np.uint8(2)) & top)], axis=1)
    return scales, minima


_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
