"""Passes of a training step that are no products, on torch's tensors (``csrc/training.h``): each over its tensors once.

float32 inside, whatever the tensors hold; the same bits for any number of threads. They stand in for torch's operations
where :func:`takes` says so; what they allocate and what they leave is what torch's would.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, c_float, c_int, c_long, c_void_p
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from arriero.errors import ArrieroError
from arriero.native import library
from arriero.native.threads import borrow_threads

_KINDS = {torch.float32: 0, torch.bfloat16: 1}
DTYPES = tuple(_KINDS)
_PLAIN = (Tensor, nn.Parameter)
"""Neither the fake tensors of a plan nor tensors that are cut over processes."""


_CHECKPOINT = "torch.utils.checkpoint"


class _Gate(Structure):
    """``ar_gate_work``."""

    _fields_ = [
        ("kind", c_int), ("gate", c_void_p), ("up", c_void_p), ("gradient", c_void_p),
        ("inner", c_void_p), ("dgate", c_void_p), ("dup", c_void_p), ("n", c_long),
    ]  # fmt: skip


class _Norm(Structure):
    """``ar_norm_work``."""

    _fields_ = [
        ("x_kind", c_int), ("y_kind", c_int), ("rows", c_long), ("width", c_int), ("eps", c_float),
        ("x", c_void_p), ("weight", c_void_p), ("inverse", c_void_p), ("y", c_void_p), ("gradient", c_void_p),
        ("stream", c_void_p), ("dx", c_void_p), ("dweight", c_void_p), ("partial", c_void_p), ("again", c_int),
    ]  # fmt: skip


class _Loss(Structure):
    """``ar_loss_work``."""

    _fields_ = [
        ("kind", c_int), ("failed", c_int), ("scores", c_void_p), ("targets", c_void_p), ("scored", c_void_p),
        ("losses", c_void_p), ("rows", c_long), ("vocab", c_long), ("total", c_float),
    ]  # fmt: skip


class _Sum(Structure):
    """``ar_sum_work``."""

    _fields_ = [("a", c_void_p), ("b", c_void_p), ("sum", c_void_p), ("n", c_long)]


def takes(*tensors: Tensor) -> bool:
    """True where these passes may stand in for torch's: plain float32 or bfloat16 tensors on a processor that has
    AVX-512, and nobody who looks on (compiles, traces a plan, counts) and must see torch's operations."""
    return (
        not torch.compiler.is_compiling()  # first, as a compiler cannot follow the rest
        and all(type(x) in _PLAIN and x.device.type == "cpu" and x.dtype in _KINDS for x in tensors)
        and not _watched()
        and os.environ.get(library.SWITCH) != "0"
        and library.available()
        and bool(_library().ar_training_there())
    )


def _watched() -> bool:
    """True where someone sees torch's operations one by one. Selective activation checkpointing, which looks for some
    of them, does not count: the others it does again, and these with them."""
    if not torch._C._len_torch_dispatch_stack():
        return False
    return any(type(mode).__module__ != _CHECKPOINT for mode in _get_current_dispatch_mode_stack())


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up`` of two tensors of one shape and dtype."""
    gate, up = gate.contiguous(), up.contiguous()
    inner = torch.empty_like(gate)
    _gate(gate, up, inner=inner)
    return inner


def gated_gradients(gate: Tensor, up: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`gated` with respect to gate and up."""
    gate, up, gradient = gate.contiguous(), up.contiguous(), gradient.to(gate.dtype).contiguous()
    of_gate, of_up = torch.empty_like(gate), torch.empty_like(gate)
    _gate(gate, up, gradient=gradient, dgate=of_gate, dup=of_up)
    return of_gate, of_up


def gated_gradients_and_again(gate: Tensor, up: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of gate, ``gated(gate, up)`` again); ``gradient``, which is contiguous, becomes the gradient of up."""
    gate, up = gate.contiguous(), up.contiguous()
    of_gate, inner = torch.empty_like(gate), torch.empty_like(gate)
    _gate(gate, up, gradient=gradient, dgate=of_gate, dup=gradient, inner=inner)
    return of_gate, inner


def _gate(gate: Tensor, up: Tensor, **others: Tensor) -> None:
    if gate.numel():
        pointers = {name: x.data_ptr() for name, x in {"gate": gate, "up": up, **others}.items()}
        work = _Gate(kind=_KINDS[gate.dtype], n=gate.numel(), **pointers)
        _library().ar_gate(work, torch.get_num_threads())


def rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """RMSNorm of x [..., width], in ``dtype``, and 1 / sqrt(mean(x^2) + eps) float32 [..., 1]."""
    x = x.contiguous()
    inverse = torch.empty((*x.shape[:-1], 1), dtype=torch.float32)
    y = torch.empty(x.shape, dtype=dtype)
    _norm("ar_norm", x, y.dtype, weight.float(), inverse, eps=eps, y=y)
    return y, inverse


def rms_norm_again(x: Tensor, inverse: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The first of :func:`rms_norm`'s results, from its second."""
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=dtype)
    _norm("ar_norm", x, y.dtype, weight.float(), inverse, again=1, y=y)
    return y


def rms_norm_gradients(
    x: Tensor, inverse: Tensor, weight: Tensor, gradient: Tensor, stream: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to x, in its dtype, and to the weight, in its.

    Args:
        stream: what else the gradient of x has in it, as from the residual stream.
    """
    x, gradient = x.contiguous(), gradient.contiguous()
    others = {} if stream is None else {"stream": stream.to(x.dtype).contiguous()}
    of_x, of_weight = torch.empty_like(x), torch.empty(weight.shape, dtype=torch.float32)
    rows, width = x.numel() // max(1, x.shape[-1]), x.shape[-1]
    partial = torch.empty(_library().ar_norm_scratch(rows, width), dtype=torch.float32)
    named = {"gradient": gradient, "dx": of_x, "dweight": of_weight, "partial": partial, **others}
    _norm("ar_norm_backward", x, gradient.dtype, weight.float(), inverse, **named)
    return of_x, of_weight.to(weight.dtype)


def _norm(
    name: str, x: Tensor, dtype: torch.dtype, weight: Tensor, inverse: Tensor, *, eps: float = 0.0, again: int = 0,
    **others: Tensor,
) -> None:  # fmt: skip
    pointers = {key: tensor.data_ptr() for key, tensor in others.items()}
    work = _Norm(
        x_kind=_KINDS[x.dtype], y_kind=_KINDS[dtype], rows=x.numel() // max(1, x.shape[-1]), width=x.shape[-1],
        eps=eps, again=again, x=x.data_ptr(), weight=weight.data_ptr(), inverse=inverse.data_ptr(), **pointers,
    )  # fmt: skip
    getattr(_library(), name)(work, torch.get_num_threads())


def scores_to_errors(scores: Tensor, targets: Tensor, scored: Tensor) -> Tensor:
    """Turn contiguous scores [S, V] in place into softmax minus one-hot; the sum of the cross-entropies, float32 [].

    Args:
        targets: int64 [S], each in 0 .. V - 1.
        scored: bool [S]: which of the cross-entropies count.
    """
    losses = torch.empty(len(scores), dtype=torch.float32)
    targets, scored = targets.contiguous(), scored.contiguous()
    work = _Loss(
        kind=_KINDS[scores.dtype], scores=scores.data_ptr(), targets=targets.data_ptr(), scored=scored.data_ptr(),
        losses=losses.data_ptr(), rows=scores.shape[0], vocab=scores.shape[1],
    )  # fmt: skip
    if _library().ar_loss(work, torch.get_num_threads()):
        raise ArrieroError("native cross-entropy: there is not enough memory for a row of scores")
    return torch.tensor(work.total)


def add_narrow(wide: Tensor, narrow: Tensor, out: Tensor) -> Tensor:
    """``out = wide + narrow`` of contiguous float32 and bfloat16 tensors of one shape; ``out`` may be ``wide``."""
    work = _Sum(wide.data_ptr(), narrow.data_ptr(), out.data_ptr(), wide.numel())
    _library().ar_sum(work, torch.get_num_threads())
    return out


@cache
def _library() -> ctypes.CDLL:
    found = library.library()
    passes: dict[str, type[Structure]] = {"gate": _Gate, "norm": _Norm, "norm_backward": _Norm, "sum": _Sum}
    for name, structure in passes.items():
        getattr(found, f"ar_{name}").argtypes = [POINTER(structure), c_int]
        getattr(found, f"ar_{name}").restype = None
    found.ar_loss.argtypes, found.ar_loss.restype = [POINTER(_Loss), c_int], c_int
    found.ar_norm_scratch.argtypes, found.ar_norm_scratch.restype = [c_long, c_int], c_long
    found.ar_training_there.argtypes, found.ar_training_there.restype = [], c_int
    borrow_threads(found)
    return found
