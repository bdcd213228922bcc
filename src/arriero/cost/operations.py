"""What one call of a tensor operation takes: its kind, its matrix sizes, its arithmetic and its traffic.

Worked out from the shapes alone, so it is the same for fake and for real tensors. torch's own
``FlopCounterMode`` counts zero for attention on the CPU, matrix-vector and integer products; here every
product is counted, and an operation that looks like a product but is not known is reported, not skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.flop_counter import flop_registry

Kind = Literal["matmul", "attention", "attention_backward", "optimizer", "other"]


@dataclass(frozen=True)
class Work:
    """Sizes and arithmetic of one call.

    matmul: ``batch`` products ``(m, k) @ (k, n)``. attention: ``batch`` heads (batch times query heads),
    ``m`` queries, ``n`` keys, ``k`` features a head. optimizer: ``m`` parameters updated.
    """

    kind: Kind
    m: int = 0
    k: int = 0
    n: int = 0
    batch: int = 1
    flops: float = 0.0


_FREE = {
    "empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "lift_fresh",
    "detach", "_unsafe_view", "_local_scalar_dense", "device", "set_", "resize_", "is_same_size",
    "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
"""Operations that touch no element of their operands."""
_ONLY_WRITE = {"zero_", "fill_", "copy_", "normal_", "uniform_", "random_", "bernoulli_"}
"""In-place operations that do not read what they overwrite."""
_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
}
_BACKWARD = 2.5
"""Flash attention's backward recomputes the scores: five products where the forward has two (Dao 2022)."""


def describe(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Work:
    """Kind, sizes and FLOPs of one call of an aten operation (a multiply-add counts two)."""
    name = func._schema.name.split("::")[1]
    if name in _MATMUL:
        return _matmul(*_MATMUL[name](args, kwargs))
    if name in _ATTENTION:
        return _attention(func, args, kwargs, 0)
    if name.removesuffix("_backward") in _ATTENTION:
        return _attention(func, args, kwargs, 1)
    if name.startswith("_fused_") and name.endswith(("adamw_", "adam_", "sgd_", "adagrad_")):
        return Work("optimizer", m=sum(p.numel() for p in args[0]))
    if name.removesuffix("_backward") == "causal_attention":
        return _causal(func, args, kwargs, out)
    if func.overloadpacket in flop_registry:  # convolutions, grouped products: torch's own formula
        return Work("matmul", flops=float(flop_registry[func.overloadpacket](*args, **kwargs, out_val=out)))
    return Work("other")


def looks_like_product(func: Any) -> bool:
    """True for a name that promises matrix products, whether or not :func:`describe` knows it."""
    words = set(func._schema.name.split("::")[1].strip("_").split("_"))
    products = {
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mv",
        "addmv",
        "dot",
        "matmul",
        "linear",
        "attention",
        "conv",
    }
    return bool(words & products) or any("matmul" in word or word.endswith("mm") for word in words - {"norm"})


def _matmul(batch: int, m: int, k: int, n: int) -> Work:
    return Work("matmul", m, k, n, batch, 2.0 * batch * m * k * n)


Sizes = tuple[int, int, int, int]


def _mm(a: torch.Tensor, b: torch.Tensor) -> Sizes:
    return 1, a.shape[0], a.shape[1], b.shape[1]


def _bmm(a: torch.Tensor, b: torch.Tensor) -> Sizes:
    return a.shape[0], a.shape[1], a.shape[2], b.shape[2]


def _linear(x: torch.Tensor, weight: torch.Tensor) -> Sizes:
    return 1, x.numel() // x.shape[-1], weight.shape[1], weight.shape[0]


def _recurrent(x: torch.Tensor, from_input: torch.Tensor, from_state: torch.Tensor, passes: int) -> Sizes:
    """A recurrent layer over x [T, B, e]: every token meets both matrices; twice in the backward pass."""
    columns = from_input.shape[1] + from_state.shape[1]
    return 1, passes * x.shape[0] * x.shape[1], columns, from_state.shape[0]


_MATMUL: dict[str, Callable[[Sequence[Any], dict[str, Any]], Sizes]] = {
    "mm": lambda a, _: _mm(a[0], a[1]),
    "_int_mm": lambda a, _: _mm(a[0], a[1]),
    "_scaled_mm": lambda a, _: _mm(a[0], a[1]),
    "addmm": lambda a, _: _mm(a[1], a[2]),
    "addmm_": lambda a, _: _mm(a[1], a[2]),
    "_addmm_activation": lambda a, _: _mm(a[1], a[2]),
    "bmm": lambda a, _: _bmm(a[0], a[1]),
    "baddbmm": lambda a, _: _bmm(a[1], a[2]),
    "baddbmm_": lambda a, _: _bmm(a[1], a[2]),
    "addbmm": lambda a, _: _bmm(a[1], a[2]),
    "mv": lambda a, _: (1, a[0].shape[0], a[0].shape[1], 1),
    "addmv": lambda a, _: (1, a[1].shape[0], a[1].shape[1], 1),
    "dot": lambda a, _: (1, 1, a[0].shape[0], 1),
    "vdot": lambda a, _: (1, 1, a[0].shape[0], 1),
    "mkldnn_rnn_layer": lambda a, _: _recurrent(a[0], a[1], a[2], 1),
    "mkldnn_rnn_layer_backward": lambda a, _: _recurrent(a[0], a[1], a[2], 2),
    "linear": lambda a, _: _linear(a[0], a[1]),
    "_linear_pointwise": lambda a, _: _linear(a[0], a[1]),
    "_weight_int8pack_mm": lambda a, _: (1, a[0].shape[0], a[0].shape[1], a[1].shape[0]),
    "_weight_int4pack_mm_for_cpu": lambda a, _: (1, a[0].shape[0], a[0].shape[1], a[1].shape[0]),
}


def _attention(func: Any, args: Sequence[Any], kwargs: dict[str, Any], first: int) -> Work:
    """``first`` is the position of the query: 0 forward, 1 backward (after the gradient)."""
    query, key, value = args[first : first + 3]
    named = {argument.name: index for index, argument in enumerate(func._schema.arguments)}
    index = named.get("is_causal", len(args))
    causal = kwargs.get("is_causal", args[index] if index < len(args) else False)
    *outer, queries, features = query.shape
    keys, value_features = key.shape[-2], value.shape[-1]
    heads = math.prod(outer)
    forward = 2.0 * heads * queries * keys * (features + value_features) * (0.5 if causal else 1.0)
    if first:
        return Work("attention_backward", queries, features, keys, heads, _BACKWARD * forward)
    return Work("attention", queries, features, keys, heads, forward)


def _causal(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> Work:
    """The native attention (``models/layers/native_attention.py``, which says how much it works out): as fast as products."""
    query = args[int(func._schema.name.endswith("_backward"))]
    flops = float(flop_registry[func.overloadpacket](*args, **kwargs, out_val=out))
    return Work(
        "matmul", query.shape[2], query.shape[3], query.shape[2], query.shape[0] * query.shape[1], flops
    )


def traffic(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Bytes read and written by one call, each operand once; views, allocations and metadata are free."""
    name = func._schema.name.split("::")[1]
    if name in _FREE or _is_view(func, args, kwargs, out):
        return 0
    if name == "embedding":  # reads the rows that are looked up, not the whole table
        return 2 * size(out) + size(args[1])
    if name in ("index_select", "gather", "index", "slice_scatter", "select_backward", "slice_backward"):
        return 2 * size(out)
    written = {a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    total = 0
    for argument, value in _bound(func, args, kwargs):
        for tensor in tensors(value):
            total += _touched(tensor) * (
                (name not in _ONLY_WRITE or argument not in written) + (argument in written)
            )
    if not written:
        total += sum(size(tensor) for tensor in tensors(out))
    return total


def _is_view(func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> bool:
    """True when every result shares an operand's storage and nothing is written."""
    if func._schema.is_mutable:
        return False
    results = list(tensors(out))
    if not results:
        return True
    storages = {t.untyped_storage()._cdata for t in tensors((args, kwargs))}
    return all(t.untyped_storage()._cdata in storages for t in results)


def _bound(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for argument, value in zip(func._schema.arguments, args, strict=False):
        yield argument.name, value
    yield from kwargs.items()


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor inside nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def size(tensor: torch.Tensor) -> int:
    """Bytes of the tensor's elements."""
    return tensor.numel() * tensor.element_size()


def _touched(tensor: torch.Tensor) -> int:
    """Bytes really behind the tensor: an expanded dimension (stride 0) is there only once."""
    elements = math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride != 0)
    return elements * tensor.element_size()
