"""The small measurements of `arriero calibrate`: cases, and a timer that goes round them in turns.

Data is random normal (products of zeros run faster on some devices), operands lie as training lays them
(weights transposed in forward, gradients transposed in weight gradients), and cases are timed in interleaved
rounds so that a disturbance hits all of them a little rather than one of them wholly.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from arriero.cost.device import ElementwiseKind
from arriero.cost.trace import trace
from arriero.products import batched, linear, matmul

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MATMUL_SHAPES = (
    (2048, 128, 384), (2048, 512, 192), (2048, 320, 896), (8192, 256, 1024), (2048, 512, 2048),  # forward
    (2048, 192, 4096), (384, 2048, 128), (192, 2048, 512), (320, 2048, 896), (2048, 2048, 256),  # weight gradients
    (256, 256, 1024), (8, 512, 2048), (1, 512, 2048),  # short prompts and decoding
)  # fmt: skip
"""(m, k, n) of the products that models of 1 to 100 million parameters spend their time in."""
BATCHED_SHAPES = ((32, 256, 32, 256), (32, 256, 256, 32), (16, 512, 64, 512), (16, 512, 512, 64))
"""(batch, m, k, n): scores and mixing of attention that is worked out as two products."""
ATTENTION_SHAPES = ((4, 4, 128, 32), (8, 4, 256, 32), (8, 4, 256, 64), (4, 8, 512, 64), (1, 8, 1024, 64))
"""(batch, heads, length, head size)."""
ELEMENTWISE_BYTES = (1 << 16, 1 << 20, 1 << 23, 1 << 26)
"""Size of the result: inside a core's cache, inside the shared cache, at its edge, far beyond it."""
_UNCACHED = 1 << 20
"""From this size on an operand last touched a pass ago is no longer in the caches."""
ELEMENTWISE: dict[ElementwiseKind, tuple[int, Callable[[torch.Tensor, torch.Tensor], Any]]] = {
    "in_place": (3, lambda x, y: x.add_(y, alpha=1e-6)),
    "stream": (3, lambda x, y: x * y),
    "transcendental": (2, lambda x, _: F.silu(x)),
    "softmax": (2, lambda x, _: torch.log_softmax(x, -1)),
    "reduction": (1, lambda x, _: x.sum(-1)),
}
"""How many times the result's size a call reads and writes, and the call."""
COPY_BYTES = 1 << 27
_CHUNK_S = 1e-3
OPTIMIZER_PARAMETERS = 4_000_000


@dataclass
class Case:
    """One thing to time. ``work`` is what a single call gets through (FLOPs, bytes, parameters)."""

    call: Callable[[], Any]
    work: float
    weight: float = 1.0
    """Share of a round's time, relative to the other cases."""
    seconds: list[float] = field(default_factory=list)
    """Seconds a call took, one figure a round."""

    @property
    def seconds_per_call(self) -> float:
        """Of the least disturbed round: with a neighbour on the machine, threads that wait for one another
        make a mean useless."""
        return min(self.seconds)

    @property
    def per_s(self) -> float:
        return self.work / self.seconds_per_call


def time_round(cases: Iterable[Case], slice_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Give every case its turn of about ``slice_s`` times its weight, and at least one call."""
    for case in cases:
        if not case.seconds:
            case.call()  # warm-up: kernels get chosen, caches filled
        case.seconds.append(_seconds_per_call(case.call, slice_s * case.weight, clock))


def _seconds_per_call(call: Callable[[], Any], slice_s: float, clock: Callable[[], float]) -> float:
    """Median over as many chunks as fit in the slice, at least one; a chunk is calls enough for the clock to see."""
    chunks: list[float] = []
    calls, start = 1, clock()
    begun = start
    while True:
        for _ in range(calls):
            call()
        now = clock()
        chunks.append((now - begun) / calls)
        if now - start >= slice_s:
            return statistics.median(chunks)
        if now - begun < _CHUNK_S / 2:
            calls *= 2
            chunks.clear()
        begun = now


def matmul_cases() -> Iterator[tuple[tuple[Any, ...], Case]]:
    for name, dtype in DTYPES.items():
        for m, k, n in MATMUL_SHAPES:
            a = torch.randn(m, k).to(dtype) if k < 2048 else torch.randn(k, m).to(dtype).t()
            b = torch.randn(n, k).to(dtype).t() if k < 2048 else torch.randn(k, n).to(dtype)
            yield ("matmul", name, m, k, n, 1), Case(_bind(matmul, a, b), 2.0 * m * k * n)
        for batch, m, k, n in BATCHED_SHAPES:
            a, b = torch.randn(batch, m, k).to(dtype), torch.randn(batch, k, n).to(dtype)
            yield ("matmul", name, m, k, n, batch), Case(_bind(batched, a, b), 2.0 * batch * m * k * n)


def elementwise_cases() -> Iterator[tuple[tuple[str, str, ElementwiseKind, int], Case]]:
    """One operand comes from memory, as a saved activation does, the other and the result from the caches."""
    for name, dtype in DTYPES.items():
        memory = torch.randn(COPY_BYTES // 4).to(dtype)
        for n_bytes in ELEMENTWISE_BYTES:
            size = n_bytes // dtype.itemsize
            rows = [part.view(-1, 512) for part in memory.split(size)]
            other = torch.randn_like(rows[0])
            parts = cycle(rows if n_bytes >= _UNCACHED else rows[:4])
            for kind, (factor, operation) in ELEMENTWISE.items():
                work = factor * n_bytes
                yield (
                    ("elementwise", name, kind, work),
                    Case(_over(operation, parts, other), work, weight=0.4),
                )


def _over(
    operation: Callable[[torch.Tensor, torch.Tensor], Any], parts: Iterator[torch.Tensor], other: torch.Tensor
) -> Callable[[], Any]:
    return lambda: operation(next(parts), other)


def attention_cases() -> Iterator[tuple[tuple[Any, ...], Case]]:
    """Forward without and backward with gradients, causal; the causal half is what ``work`` counts."""
    for name, dtype in DTYPES.items():
        for shape in ATTENTION_SHAPES:
            batch, heads, length, features = shape
            q, k, v = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(3))
            work = 2.0 * batch * heads * length * length * features
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            grad = torch.randn_like(out)
            yield ("attention", name, *shape, "forward"), Case(_bind(_attend, q, k, v), work)
            yield (
                ("attention", name, *shape, "backward"),
                Case(_bind(_attend_back, out, (q, k, v), grad), 2.5 * work),
            )


def other_cases() -> Iterator[tuple[tuple[str, ...], Case]]:
    """Copy, the fixed cost of an operation (without and with autograd), AdamW, a small model's training step."""
    source = torch.randn(COPY_BYTES // 4)
    target = torch.empty_like(source)
    yield ("copy",), Case(_bind(target.copy_, source), 2.0 * COPY_BYTES, weight=2.0)
    small = torch.randn(16)
    yield ("call",), Case(_bind(_calls, small), 100.0)
    yield ("operation",), _tiny_step()
    yield ("optimizer",), Case(_optimizer_step(), float(OPTIMIZER_PARAMETERS), weight=2.0)
    for name in DTYPES:
        yield ("step", name), Case(training_step(name), 1.0, weight=4.0)


def _bind(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    F.scaled_dot_product_attention(q, k, v, is_causal=True)


def _attend_back(out: torch.Tensor, inputs: tuple[torch.Tensor, ...], grad: torch.Tensor) -> None:
    torch.autograd.grad(out, inputs, grad, retain_graph=True)


def _calls(x: torch.Tensor) -> None:
    for _ in range(100):
        x.neg()


def _tiny_step() -> Case:
    """A training step on next to nothing: all that it takes is the fixed cost of so many operations, Python,
    autograd and the optimizer's loop included. How many there are is what the roofline will count: the trace's."""
    small = {"tokens": 4, "width": 8, "vocabulary": 32}

    def make() -> Callable[[], None]:
        step = training_step("float32", **small)
        step()
        return step

    traced = trace(make, lambda step: step())
    return Case(training_step("float32", **small), float(sum(op.count for op in traced.ops)))


def product(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    """A linear layer as the models have it."""
    return linear(x, layer.weight, layer.bias)


def _optimizer_step() -> Callable[[], Any]:
    parameters = [nn.Parameter(torch.randn(OPTIMIZER_PARAMETERS // 8)) for _ in range(8)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)
    optimizer.step()
    return optimizer.step


def training_step(
    dtype: str, tokens: int = 1024, width: int = 256, vocabulary: int = 2048
) -> Callable[[], None]:  # fmt: skip
    """A step of a small gated network, for comparing the two dtypes as training uses them."""
    hidden = 3 * width
    layers = nn.ModuleList(
        nn.Linear(i, o) for i, o in ((width, hidden), (width, hidden), (hidden, width)) * 2
    )
    head = nn.Linear(width, vocabulary)
    ids, x = torch.randint(0, vocabulary, (tokens,)), torch.randn(tokens, width)
    optimizer = torch.optim.AdamW([*layers.parameters(), *head.parameters()], lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            y = x
            for gate, up, down in zip(layers[::3], layers[1::3], layers[2::3], strict=True):
                y = y + product(F.silu(product(y, gate)) * product(y, up), down)
            logits = product(y, head)
        F.cross_entropy(logits.float(), ids).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
