"""Causal attention in bfloat16 by the native library, with its backward pass: as operations that torch and plans know.

Where it can be used depends on the processor alone. It keeps queries, keys and values as they come (a projection's
result, seen by heads), the output and one float32 number for each query and head; the scores are worked out tile
by tile in the processor's caches, in both passes (Dao et al., arXiv 2205.14135).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import register_flop_formula

from arriero.models.layers.documents import FirstKeys
from arriero.models.layers.explicit_attention import causal_pairs
from arriero.native import attention as native

_OPERATIONS = torch.library.Library("arriero", "FRAGMENT")


def takes(q: Tensor, k: Tensor, v: Tensor, scale: float) -> bool:
    """True where :func:`attend_causal` may stand in for torch's operations."""
    return (
        q.device.type == "cpu"
        and q.dtype == k.dtype == v.dtype == torch.bfloat16
        and q.shape[2] == k.shape[2]
        and q.shape[3] == v.shape[3]
        and native.takes_head_dim(q.shape[3])
        and scale > 0
        and all(type(x) in (Tensor, nn.Parameter, FakeTensor) for x in (q, k, v))
        and not torch.compiler.is_compiling()
        and native.available()
    )


def takes_documents(head_dim: int, dtype: torch.dtype) -> bool:
    """True where packed rows had best be told as :class:`FirstKeys`: :func:`takes` is likely to say yes."""
    return (
        dtype == torch.bfloat16
        and native.takes_head_dim(head_dim)
        and not torch.compiler.is_compiling()
        and native.available()
    )


def attend_causal(
    q: Tensor, k: Tensor, v: Tensor, scale: float, documents: FirstKeys | None = None
) -> Tensor:
    """Attention of q [B, H, T, Dh] over k, v [B, Hkv, T, Dh] -> [B, H, T, Dh], laid out as [B, T, H, Dh].

    Token t sees keys 0 .. t, or those of its document. Products are of bfloat16 with float32 sums; the number of
    threads changes no bit.
    """
    q, k, v = (_dense(x) for x in (q, k, v))
    first = None if documents is None else documents.first.contiguous()
    if torch.is_grad_enabled():
        result: Tensor = _Attention.apply(q, k, v, scale, first)
        return result
    out: Tensor = torch.ops.arriero.causal_attention(q, k, v, scale, first)[0]
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, first: Tensor | None) -> Tensor:
        ctx.scale = scale
        out, shifts = torch.ops.arriero.causal_attention(q, k, v, scale, first)
        ctx.save_for_backward(q, k, v, out, shifts, first)
        result: Tensor = out
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *kept, first = ctx.saved_tensors
        gradient = _dense(gradient.to(torch.bfloat16))
        found = torch.ops.arriero.causal_attention_backward(gradient, *kept, ctx.scale, first)
        return *found, None, None


def _dense(x: Tensor) -> Tensor:
    """x, or a copy whose last dimension is dense."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _empty_like(x: Tensor) -> Tensor:
    """[B, H, T, Dh], laid out as a projection gives and takes it: [B, T, H, Dh]."""
    return x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2)


def _results(q: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


def _forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    out, shifts = _results(q)
    native.forward(q, k, v, out, shifts, scale, first)
    return out, shifts


def _forward_shapes(
    q: Tensor, k: Tensor, v: Tensor, scale: float, first: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return _results(q)


def _backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, shifts: Tensor, scale: float,
    first: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    found = _empty_like(q), _empty_like(k), _empty_like(v)
    native.backward(gradient, q, k, v, out, shifts, found, scale, first)
    return found


def _backward_shapes(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_like(q), _empty_like(k), _empty_like(v)


def _register() -> None:
    """What is not said of an operation (autograd) is not done by it: :class:`_Attention` has the backward pass."""
    operations = {
        "causal_attention(Tensor q, Tensor k, Tensor v, float scale, Tensor? first=None) -> (Tensor, Tensor)": (
            _forward, _forward_shapes,
        ),
        "causal_attention_backward(Tensor gradient, Tensor q, Tensor k, Tensor v, Tensor out, Tensor shifts, "
        "float scale, Tensor? first=None) -> (Tensor, Tensor, Tensor)": (_backward, _backward_shapes),
    }  # fmt: skip
    for schema, (run, shapes) in operations.items():
        name = _OPERATIONS.define(schema)
        _OPERATIONS.impl(name, run, "CPU")
        torch.library.register_fake(f"arriero::{name}", shapes, lib=_OPERATIONS)


_register()


@register_flop_formula(torch.ops.arriero.causal_attention)
def _forward_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> float:
    """Two products over the pairs that attention over as many tokens counts wherever it is worked out in blocks, so that
    a plan's arithmetic does not depend on the processor; these tiles leave out some of them."""
    return 4.0 * q[0] * q[1] * causal_pairs(q[2]) * q[3]


@register_flop_formula(torch.ops.arriero.causal_attention_backward)
def _backward_flops(gradient: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> float:
    """Five products: the scores once more, and four of gradients."""
    return 2.5 * _forward_flops(q, k, v)
