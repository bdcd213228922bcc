"""The native product on torch's tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from arriero.native import library
from arriero.native.matrices import NativeMatrix

_exact: ContextVar[bool] = ContextVar("exact_products", default=False)


@contextmanager
def exact_products() -> Iterator[None]:
    """Inside it layers with low-bit weights dequantise them and leave the activations as they are.

    Without it, where the native library is there, a product in inference rounds the activations to int8 with a scale
    for each 32 inputs. ``ARRIERO_NATIVE=0`` has the same effect for a whole process.
    """
    token = _exact.set(True)
    try:
        yield
    finally:
        _exact.reset(token)


def takes(x: Tensor) -> bool:
    """True where the native product may stand in for torch's: inference (no gradients wanted) on the CPU."""
    return (
        type(x) is Tensor  # neither the fake tensors of a plan nor tensors that are cut over processes
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not _exact.get()
        and os.environ.get(library.SWITCH) != "0"
        and not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0  # who counts operations must see torch's
        and library.available()
    )


def linear(x: Tensor, matrix: NativeMatrix) -> Tensor:
    """``x W^T + bias``: x [..., k] -> [..., n] in the dtype of x, computed by torch's number of threads.

    The result of a row has the same bits whatever other rows are there and however many threads there are. Values
    that are not finite make the row's results NaN (int8 and int4 weights).

    Raises:
        ArrieroError: the native library cannot be used.
    """
    native = library.library()
    rows = x.detach().reshape(-1, matrix.k).to(torch.float32).contiguous()
    y = torch.empty(len(rows), matrix.n, dtype=torch.float32)
    if len(rows):
        native.ar_set_threads(torch.get_num_threads())
        scratch = torch.empty(native.ar_product_scratch(matrix.struct, len(rows)), dtype=torch.uint8)
        native.ar_linear(
            matrix.struct, rows.data_ptr(), len(rows), matrix.k, scratch.data_ptr(), y.data_ptr(), matrix.n
        )
    return y.to(x.dtype).view(*x.shape[:-1], matrix.n)
