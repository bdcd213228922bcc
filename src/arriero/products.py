"""Matrix products on a processor, by whichever of torch's libraries is fast on it.

torch's float32 products go to MKL, which on AMD's processors leaves AVX-512 alone; oneDNN, which torch brings along too
and uses for bfloat16, does not ask who made the processor. On an AMD EPYC with AVX-512 a forward product does twice
the work a second, on one without it gradients do less (benchmarks/products.py). The choice depends on the processor alone, so
that a resumed run computes the same bits.

Products in bfloat16 are oneDNN's, which wants AVX-512 for them. Without it torch has plain loops (benchmarks/products.py
--dtype bfloat16); there they are done in float32 and rounded, as a processor that has them does inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SETTING = "ARRIERO_FLOAT32_PRODUCTS"
"""Environment variable: ``onednn`` or ``blas`` in place of the choice by processor."""
_REGULAR = 16
_FEW = 4
"""Rows from which on making a bfloat16 weight wide takes less than torch's loops over it."""
Product = Callable[["Tensor", "Tensor", "Tensor | None"], "Tensor"]
_traced_here: ContextVar[bool] = ContextVar("traced_here", default=False)


def float32_library() -> str:
    """The library that is wanted for float32 products: ``onednn`` or ``blas``. Needs no torch."""
    wanted = os.environ.get(SETTING)
    if wanted in ("onednn", "blas"):
        return wanted
    return "onednn" if _is_amd_with_avx512() else "blas"


@cache
def uses_onednn() -> bool:
    """True where float32 products go to oneDNN: it is wanted, and this build of torch has it."""
    import torch

    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and float32_library() == "onednn"


@cache
def _is_amd_with_avx512() -> bool:
    """As the processor says itself; False where that cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    facts = {
        name.strip(): value.split() for name, _, value in (line.partition(":") for line in reversed(lines))
    }
    return facts.get("vendor_id") == ["AuthenticAMD"] and "avx512f" in facts.get("flags", [])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W^T + b``: x [..., K], weight [N, K], bias [N] -> [..., N]; what ``torch.nn.functional.linear`` gives."""
    import torch
    import torch.nn.functional as F

    if _rows(x) >= _FEW and widens(x, weight):
        x, weight, bias = (None if part is None else part.to(torch.bfloat16) for part in (x, weight, bias))
        product = _widened
    elif _takes(x, weight):
        product = _onednn
    else:
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        result: Tensor = _linear_function().apply(product, x, weight, bias)
        return result
    return product(x, weight, bias)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """``a b`` of two matrices [M, K] and [K, N], not differentiable where it is not torch's own."""
    import torch

    if widens(a, b):
        return _widened(a, b.t(), None)
    return _onednn(a, b.t(), None) if _takes(a, b.t()) else torch.mm(a, b)


def batched(a: Tensor, b: Tensor) -> Tensor:
    """``a b`` of batches of matrices [B, M, K] and [B, K, N]."""
    import torch

    if widens(a, b):
        with torch.autocast("cpu", enabled=False):
            return torch.bmm(a.float(), b.float()).to(torch.bfloat16)
    return torch.bmm(a, b)


def widens(a: Tensor, b: Tensor) -> bool:
    """True where a product of these in bfloat16 is done in float32 and rounded, because this processor has no kernel for it.

    A trace on fake tensors may be of another device, so it says so itself (:func:`traced_here`).
    """
    import torch

    if torch.float32 == a.dtype == b.dtype and not torch.is_autocast_enabled("cpu"):
        return False
    if a.device.type != "cpu" or torch.compiler.is_compiling() or _has_bfloat16() or _is_distributed(a, b):
        return False
    if torch.is_autocast_enabled("cpu"):
        if torch.get_autocast_dtype("cpu") != torch.bfloat16:
            return False
    elif not torch.bfloat16 == a.dtype == b.dtype:
        return False
    return _traced_here.get() or not _is_fake(a)


@contextmanager
def traced_here() -> Iterator[None]:
    """Products of fake tensors are those of this processor while the body runs."""
    before = _traced_here.set(True)
    try:
        yield
    finally:
        _traced_here.reset(before)


@cache
def _has_bfloat16() -> bool:
    """Whether torch has fast bfloat16 products on this processor."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_fake(tensor: Tensor) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)


def _takes(x: Tensor, weight: Tensor) -> bool:
    """oneDNN makes and keeps a kernel for each number of rows, so odd numbers are left to BLAS."""
    import torch

    if (
        _is_distributed(x, weight)
        or x.dtype != torch.float32
        or weight.dtype != torch.float32
        or x.device.type != "cpu"
        or not uses_onednn()
    ):
        return False
    if torch.is_autocast_enabled("cpu"):
        return False
    rows = _rows(x)
    return 0 < rows < _REGULAR or (rows > 0 and rows % _REGULAR == 0)


def _rows(x: Tensor) -> int:
    return x.numel() // max(1, x.shape[-1])


def _is_distributed(*tensors: Tensor) -> bool:
    """True where a tensor is cut over processes; torch must find the collectives that its product takes."""
    return any(hasattr(tensor, "device_mesh") for tensor in tensors)


def _widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b`` of bfloat16, summed in float32 and rounded once."""
    import torch
    import torch.nn.functional as F

    with torch.autocast("cpu", enabled=False):
        wide = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
        return wide.to(torch.bfloat16)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    import torch

    if torch.compiler.is_compiling():
        compiled: Tensor = torch.ops.arriero.linear(x, weight, bias)
        return compiled
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


@cache
def prepare_for_compiling() -> None:
    """Make oneDNN's product an operation that torch.compile leaves whole; as it is torch 2.13 fails to lower it."""
    import torch

    uses_onednn()  # reads a file, which a compiler cannot follow; its answer is kept

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return found

    def shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return x.new_empty(*x.shape[:-1], weight.shape[0])

    schema = "(Tensor x, Tensor weight, Tensor? bias) -> Tensor"
    operation = torch.library.custom_op("arriero::linear", product, mutates_args=(), schema=schema)
    operation.register_fake(shape)


@cache
def _linear_function() -> Any:
    """The differentiable product; made when torch is first needed."""
    import torch

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, product: Product, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            # a frozen weight has no gradient that would need the input
            ctx.save_for_backward(x if ctx.needs_input_grad[2] else None, weight)
            ctx.product, ctx.has_bias = product, bias is not None
            return product(x, weight, bias)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            x, weight = ctx.saved_tensors
            rows = gradient.reshape(-1, gradient.shape[-1])
            _, wants_x, wants_weight, wants_bias = ctx.needs_input_grad
            x_gradient = ctx.product(gradient, weight.t(), None) if wants_x else None
            weight_gradient = (
                ctx.product(rows.t(), x.reshape(-1, x.shape[-1]).t(), None) if wants_weight else None
            )
            bias_gradient = rows.sum(0) if ctx.has_bias and wants_bias else None
            return None, x_gradient, weight_gradient, bias_gradient

    return Linear
