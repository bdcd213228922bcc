"""Seconds from a trace and a device profile: every operation at the rate that was measured for its like.

Each call takes the fixed cost of an eager operation plus the larger of arithmetic over rate and traffic over
bandwidth (the roofline of Williams, Waterman and Patterson 2009). Rates are interpolated between measured
points in the logarithm of the sizes; a dtype that was never measured is an error, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, TypeVar

from arriero.cost.device import AttentionPoint, DeviceProfile, ElementwiseKind, ElementwisePoint, MatmulPoint
from arriero.cost.trace import Op, Trace
from arriero.errors import ArrieroError


class _HasDtype(Protocol):
    @property
    def dtype(self) -> str: ...


P = TypeVar("P", bound=_HasDtype)

_CLASSES: dict[ElementwiseKind, set[str]] = {
    "transcendental": {
        "silu", "silu_backward", "sigmoid", "sigmoid_backward", "exp", "log", "tanh", "tanh_backward", "gelu",
        "gelu_backward", "sin", "cos", "erf", "softplus", "softplus_backward", "normal_", "randn", "uniform_",
        "bernoulli_", "native_dropout", "logsigmoid_forward", "log_sigmoid_forward", "log_sigmoid_backward",
    },
    "softmax": {
        "_softmax", "_log_softmax", "_softmax_backward_data", "_log_softmax_backward_data", "logsumexp",
        "native_layer_norm", "native_layer_norm_backward", "_fused_rms_norm", "_fused_rms_norm_backward",
        "sort", "topk", "cumsum",
    },
    "reduction": {"sum", "mean", "amax", "max", "min", "argmax", "linalg_vector_norm", "_foreach_norm", "any", "all"},
}  # fmt: skip


def seconds(trace: Trace, device: DeviceProfile) -> float:
    """Time that the traced code takes on the device that the profile describes.

    Raises:
        ArrieroError: the trace multiplies matrices of a dtype that the profile has no rate for.
    """
    return math.fsum(by_kind(trace, device).values())


def by_kind(trace: Trace, device: DeviceProfile) -> dict[str, float]:
    """The seconds of :func:`seconds` by what takes them: matmul, attention, attention_backward, optimizer,
    element-wise (``other``), and the fixed cost of so many operations (``overhead``)."""
    result: dict[str, float] = {}
    for op in trace.ops:
        result[op.kind] = result.get(op.kind, 0.0) + op.count * op_seconds(op, device)
        result["overhead"] = result.get("overhead", 0.0) + op.count * device.op_seconds
    return result


def op_seconds(op: Op, device: DeviceProfile) -> float:
    """Time of one call, without the fixed cost of an operation."""
    if op.kind == "matmul":
        return max(op.flops / matmul_rate(op, device), op.bytes / _stream_rate(op, device))
    if op.kind in ("attention", "attention_backward"):
        return max(op.flops / attention_rate(op, device), op.bytes / _stream_rate(op, device))
    if op.kind == "optimizer":
        return op.m / device.optimizer_params_per_s
    return op.bytes / elementwise_rate(elementwise_kind(op), op.dtype, op.bytes, device)


def matmul_rate(op: Op, device: DeviceProfile) -> float:
    """FLOP/s of a product of this size, from the measured sizes nearest in log(m), log(k), log(n)."""
    points = _of_dtype(device.matmul, op.dtype, "matrix products")
    if not op.m:  # a convolution or grouped product: no sizes to go by, so the middle of what was measured
        return sorted(p.flops_per_s for p in points)[len(points) // 2]
    return _interpolate(_place(op), [(_place(p), p.flops_per_s) for p in points])


def _place(sizes: Op | MatmulPoint) -> tuple[float, ...]:
    """Where a product lies among the others: many small products at once are far from a single one."""
    return _log(sizes.m), _log(sizes.k), _log(sizes.n), 4.0 if sizes.batch > 1 else 0.0


def attention_rate(op: Op, device: DeviceProfile) -> float:
    """FLOP/s of attention, from the measured shapes nearest in log(length) and log(head size)."""
    points = _of_dtype(device.attention, op.dtype, "attention")
    rate: Callable[[AttentionPoint], float] = lambda p: (  # noqa: E731
        p.forward_flops_per_s if op.kind == "attention" else p.backward_flops_per_s
    )
    return _interpolate(
        (_log(op.n), _log(op.k), 0.25 * _log(op.batch)),
        [((_log(p.seq_len), _log(p.head_dim), 0.25 * _log(p.batch * p.n_heads)), rate(p)) for p in points],
    )


def elementwise_kind(op: Op) -> ElementwiseKind:
    """The class of element-wise work that an operation belongs to, by its name."""
    for kind, names in _CLASSES.items():
        if op.name in names:
            return kind
    return "in_place" if op.name.endswith("_") or op.name.startswith("_foreach_") else "stream"


def elementwise_rate(kind: ElementwiseKind, dtype: str, n_bytes: float, device: DeviceProfile) -> float:
    """Bytes per second of one class of element-wise work at that size.

    Integers and dtypes that were not measured move like float32: for them only the bytes count.
    """
    curve = _curve(tuple(device.elementwise), kind, dtype if dtype == "bfloat16" else "float32")
    if not curve:
        raise ArrieroError("the device profile has no element-wise rates; run `arriero calibrate`")
    return _along(curve, math.log2(max(1.0, n_bytes)))


def _stream_rate(op: Op, device: DeviceProfile) -> float:
    return elementwise_rate("in_place", "float32", op.bytes, device)


@lru_cache(maxsize=256)
def _curve(
    points: tuple[ElementwisePoint, ...], kind: ElementwiseKind, dtype: str
) -> tuple[tuple[float, float], ...]:  # fmt: skip
    return tuple(
        sorted(
            (math.log2(p.bytes), math.log2(p.bytes_per_s))
            for p in points
            if (p.kind, p.dtype) == (kind, dtype)
        )
    )


def _along(curve: Sequence[tuple[float, float]], x: float) -> float:
    """Straight line between neighbouring points of log rate over log size; constant beyond the ends."""
    if x <= curve[0][0]:
        return float(2.0 ** curve[0][1])
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x <= x1:
            return float(2.0 ** (y0 + (y1 - y0) * (x - x0) / (x1 - x0)))
    return float(2.0 ** curve[-1][1])


def _interpolate(at: Sequence[float], points: Iterable[tuple[Sequence[float], float]]) -> float:
    """Shepard's inverse-distance mean of log rates, weight 1/d² in log sizes; a measured size gives its own rate."""
    weight_sum = log_sum = 0.0
    for place, rate in points:
        squared = math.fsum((a - b) ** 2 for a, b in zip(at, place, strict=True))
        weight = 1.0 / (squared + 1e-3)
        weight_sum += weight
        log_sum += weight * math.log(rate)
    return math.exp(log_sum / weight_sum)


def _of_dtype(points: Sequence[P], dtype: str, what: str) -> list[P]:
    found = [point for point in points if point.dtype == dtype]
    if not found:
        measured = ", ".join(sorted({p.dtype for p in points})) or "nothing"
        raise ArrieroError(
            f"the device profile has no rate for {what} in {dtype} (measured: {measured}); "
            "choose one of these or run `arriero calibrate` again"
        )
    return found


def _log(size: int) -> float:
    return math.log2(max(1, size))
