"""Causal attention for training on torch's tensors, by the native library (``csrc/training_attention.h``)."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache

import torch
from torch import Tensor

from arriero.errors import ArrieroError
from arriero.native import library
from arriero.native.threads import borrow_threads

_STEP, _MOST = 16, 256
"""Head dimensions that the kernels take: multiples of the first up to the second."""


class Headed(Structure):
    """``ar_headed``: where a tensor [B, H, T, Dh] lies."""

    _fields_ = [("data", c_void_p), ("row", c_int64), ("head", c_int64), ("token", c_int64)]

    @classmethod
    def of(cls, x: Tensor) -> Headed:
        return cls(x.data_ptr(), *x.stride()[:3])


class _Causal(Structure):
    """``ar_causal``."""

    _fields_ = [
        ("rows", c_int32), ("heads", c_int32), ("kv_heads", c_int32), ("tokens", c_int32), ("head_dim", c_int32),
        ("threads", c_int32), ("scale", c_float), ("next", c_int32), ("failed", c_int32), ("pad", c_int32),
        ("first", c_void_p), ("shifts", c_void_p),
        ("q", Headed), ("k", Headed), ("v", Headed), ("out", Headed),
        ("gradient", Headed), ("of_q", Headed), ("of_k", Headed), ("of_v", Headed),
    ]  # fmt: skip


def available() -> bool:
    """True where there are kernels for this processor (AVX512_BF16)."""
    return library.available() and bool(prepared().ar_causal_there())


def takes_head_dim(head_dim: int) -> bool:
    """True for the head dimensions that the kernels take."""
    return head_dim % _STEP == 0 and 0 < head_dim <= _MOST


def forward(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, shifts: Tensor, scale: float, first: Tensor | None = None
) -> None:
    """Write attention of q [B, H, T, Dh] over k, v [B, Hkv, T, Dh] into ``out`` [B, H, T, Dh], all bfloat16.

    The last dimension of each is dense. Sums are float32, in an order that the number of threads does not change.

    Args:
        shifts: float32 [B, H, T], log(sum e^(scale q k)) / scale, which the backward pass wants.
        scale: of the scores, above 0.
        first: int32 [B, T], the first key that each query sees; None: 0. It sees all from there to itself.

    Raises:
        ArrieroError: the native library cannot be used, or there is no memory.
    """
    _run("ar_causal_forward", q, k, scale, first, shifts, {"q": q, "k": k, "v": v, "out": out})


def backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    shifts: Tensor,
    found: tuple[Tensor, Tensor, Tensor],
    scale: float,
    first: Tensor | None = None,
) -> None:
    """Write the gradients of q, k and v into ``found``; the rest as in :func:`forward`, which wrote it.

    Raises:
        ArrieroError: the native library cannot be used, or there is no memory.
    """
    named = {"gradient": gradient, "q": q, "k": k, "v": v, "out": out}
    named.update(zip(("of_q", "of_k", "of_v"), found, strict=True))
    _run("ar_causal_backward", q, k, scale, first, shifts, named)


def _run(
    name: str,
    q: Tensor,
    k: Tensor,
    scale: float,
    first: Tensor | None,
    shifts: Tensor,
    named: dict[str, Tensor],
) -> None:
    if not q.numel():
        return
    work = _Causal(
        rows=q.shape[0], heads=q.shape[1], kv_heads=k.shape[1], tokens=q.shape[2], head_dim=q.shape[3],
        threads=torch.get_num_threads(), scale=scale, shifts=shifts.data_ptr(),
        first=None if first is None else first.data_ptr(),
    )  # fmt: skip
    for key, x in named.items():
        setattr(work, key, Headed.of(x))
    if getattr(prepared(), name)(work):
        raise ArrieroError("native attention: there is not enough memory for a thread's tiles")


@cache
def prepared() -> ctypes.CDLL:
    """The library, ready to be called."""
    found = library.library()
    found.ar_causal_there.argtypes, found.ar_causal_there.restype = [], ctypes.c_int
    for function in (found.ar_causal_forward, found.ar_causal_backward):
        function.argtypes, function.restype = [POINTER(_Causal)], ctypes.c_int
    borrow_threads(found)
    return found
