"""Rotary position embedding of bfloat16 tensors by the native library (``csrc/training_rotary.h``)."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from arriero.native import attention
from arriero.native.attention import Headed

available = attention.available
"""True where there is a kernel for this processor (AVX512_BF16)."""


class _Rotary(Structure):
    """``ar_rotary``."""

    _fields_ = [
        ("rows", c_int32), ("heads", c_int32), ("tokens", c_int32), ("head_dim", c_int32), ("threads", c_int32),
        ("width", c_int32), ("direction", c_int32), ("next", c_int32), ("cos", c_void_p), ("sin", c_void_p),
        ("table_row", c_int64), ("table_token", c_int64), ("x", Headed), ("out", Headed),
    ]  # fmt: skip


def rotate(x: Tensor, cos: Tensor, sin: Tensor, direction: int, out: Tensor) -> None:
    """Write x [B, H, T, Dh], turned by the angles of ``cos`` and ``sin``, into ``out``; x may be ``out``.

    Args:
        x: bfloat16; its last dimension, and that of ``out``, is dense.
        cos, sin: float32 [T, width] or [B, 1, T, width] of the same strides, the last dimension dense; the first half's
            sines negative.
        direction: 1, or -1 for the opposite angles.

    Raises:
        ArrieroError: the native library cannot be used.
    """
    if not x.numel():
        return
    work = _Rotary(
        rows=x.shape[0], heads=x.shape[1], tokens=x.shape[2], head_dim=x.shape[3], threads=torch.get_num_threads(),
        width=cos.shape[-1], direction=direction, cos=cos.data_ptr(), sin=sin.data_ptr(),
        table_row=cos.stride(0) if cos.dim() == 4 and cos.shape[0] > 1 else 0, table_token=cos.stride(-2),
        x=Headed.of(x), out=Headed.of(out),
    )  # fmt: skip
    _library().ar_rotate(work)


@cache
def _library() -> ctypes.CDLL:
    found = attention.prepared()
    found.ar_rotate.argtypes, found.ar_rotate.restype = [POINTER(_Rotary)], None
    return found
