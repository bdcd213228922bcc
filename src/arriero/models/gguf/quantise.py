"""float32 to blocks of ggml's types, rounding as ggml's reference does, so that every byte agrees.

Source: ``quantize_row_*_ref`` in ``ggml-quants.c`` and ``ggml_compute_fp32_to_bf16`` in ``ggml-impl.h``.
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


def encode(values: Tensor, kind: BlockType) -> Bytes:
    """Bytes of a tensor whose last dimension is a multiple of the block; flat.

    Raises:
        OverflowError: a value is not finite, or too large for the type.
    """
    flat = values.detach().to("cpu", torch.float32).reshape(-1)
    if kind.name in ("F32", "F16", "BF16"):
        return _plain(flat, kind.name)
    if not torch.isfinite(flat).all():
        raise OverflowError("a value is not finite")
    blocks, scales = flat.numpy().reshape(-1, kind.values), _SCALE_BYTES[kind.name]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        made = _ENCODERS[kind.name](blocks)
    if not np.isfinite(np.ascontiguousarray(made[:, :scales]).view("<f2")).all():
        raise OverflowError("a value is too large for a float16 scale")
    return made.reshape(-1)


def _plain(flat: Tensor, name: str) -> Bytes:
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[name]
    made = flat.to(dtype)
    if not torch.isfinite(made).all():
        raise OverflowError(
            "a value is not finite" if not torch.isfinite(flat).all() else "a value is too large"
        )
    return made.contiguous().view(torch.uint8).numpy()


def _inverse(step: Floats) -> Floats:
    return np.where(step == 0, np.float32(0), np.float32(1) / step)


def _half(values: Floats) -> Bytes:
    return values.astype("<f2").view(np.uint8)


def _largest(blocks: Floats) -> Floats:
    """The value of largest magnitude of every block, with its sign: [blocks, 1]."""
    at = np.abs(blocks).argmax(axis=1, keepdims=True)
    return np.take_along_axis(blocks, at, axis=1)


def _codes(values: Floats, most: int) -> Bytes:
    return np.trunc(values).astype(np.uint8).clip(0, most)


def _nibbles(codes: Bytes) -> Bytes:
    return (codes[:, :16] & np.uint8(15)) | (codes[:, 16:] << np.uint8(4))


def _fifth_bits(codes: Bytes) -> Bytes:
    return np.packbits(codes >> np.uint8(4), axis=1, bitorder="little")


def _symmetric(blocks: Floats, half: int) -> tuple[Bytes, Bytes]:
    """Step as float16 and codes 0..2 half - 1: the value of largest magnitude becomes exactly code 0."""
    step = _largest(blocks) / np.float32(-half)
    return _half(step), _codes(blocks * _inverse(step) + np.float32(half + 0.5), 2 * half - 1)


def _affine(blocks: Floats, most: int) -> tuple[Bytes, Bytes]:
    """Step and minimum as float16, and codes 0..most."""
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    step = (high - low) / np.float32(most)
    codes = _codes((blocks - low) * _inverse(step) + np.float32(0.5), most)
    return np.concatenate([_half(step), _half(low)], axis=1), codes


def _q4_0(blocks: Floats) -> Bytes:
    scale, codes = _symmetric(blocks, 8)
    return np.concatenate([scale, _nibbles(codes)], axis=1)


def _q4_1(blocks: Floats) -> Bytes:
    scale, codes = _affine(blocks, 15)
    return np.concatenate([scale, _nibbles(codes)], axis=1)


def _q5_0(blocks: Floats) -> Bytes:
    scale, codes = _symmetric(blocks, 16)
    return np.concatenate([scale, _fifth_bits(codes), _nibbles(codes)], axis=1)


def _q5_1(blocks: Floats) -> Bytes:
    scale, codes = _affine(blocks, 31)
    return np.concatenate([scale, _fifth_bits(codes), _nibbles(codes)], axis=1)


def _q8_0(blocks: Floats) -> Bytes:
    step = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * _inverse(step)
    size = np.abs(scaled)
    # C's roundf: halves away from zero; the fraction of a float32 below 2^23 is exact
    rounded = np.sign(scaled) * (np.floor(size) + np.floor(2 * (size - np.floor(size))))
    return np.concatenate([_half(step), rounded.astype(np.int8).view(np.uint8)], axis=1)


_ENCODERS: dict[str, Callable[[Floats], Bytes]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
}
_SCALE_BYTES = {"Q4_0": 2, "Q4_1": 4, "Q5_0": 2, "Q5_1": 4, "Q8_0": 2}
