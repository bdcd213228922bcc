"""What one micro-batch takes, forward and backward apart, traced from the model that would be trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from arriero.cost.trace import Op, trace_parts
from arriero.cost.workload import Recompute, Work
from arriero.models.config import ModelConfig
from arriero.planning.counts.subject import Subject
from arriero.training.objectives.head import head_parameters
from arriero.training.precision import autocast
from arriero.training.recompute import wrap_blocks

BETWEEN_ACTIVATIONS = (
    "bmm",
    "baddbmm",
    "baddbmm_",
    "addbmm",
    "causal_attention",
    "causal_attention_backward",
)
"""Batched products: scores and mixing of values where they are worked out whole. No weight is in them."""
_VECTOR = ("mv", "addmv", "dot", "vdot")
"""Products with a vector: arithmetic that waits for memory."""


@dataclass(frozen=True)
class Passes:
    """A forward and a backward pass, and the bytes they keep.

    Attributes:
        square: FLOP of the forward pass's attention if the full square were worked out.
        saved: bytes that the forward pass leaves for the backward pass (and the loss).
        forward_peak, backward_peak: most bytes over those at the forward pass's end; without gradients of parameters.
    """

    forward: Work
    backward: Work
    square: float
    saved: float
    forward_peak: float
    backward_peak: float
    uncounted: frozenset[str] = frozenset()

    @property
    def both(self) -> Work:
        """Forward and backward."""
        return self.forward + self.backward

    def __add__(self, other: Passes) -> Passes:
        return Passes(
            self.forward + other.forward, self.backward + other.backward, self.square + other.square,
            self.saved + other.saved, self.forward_peak + other.forward_peak,
            self.backward_peak + other.backward_peak, self.uncounted | other.uncounted,
        )  # fmt: skip

    def __mul__(self, factor: float) -> Passes:
        return Passes(
            self.forward * factor, self.backward * factor, self.square * factor, self.saved * factor,
            self.forward_peak * factor, self.backward_peak * factor, self.uncounted,
        )  # fmt: skip

    def __sub__(self, other: Passes) -> Passes:
        return self + other * -1.0


NOTHING = Passes(Work(), Work(), 0.0, 0.0, 0.0, 0.0)


@lru_cache(maxsize=1024)
def passes(
    subject: Subject,
    config: ModelConfig,
    rows: int,
    *,
    mode: Recompute = "none",
    head: bool = False,
    train: bool = True,
) -> Passes:
    """Trace ``rows`` sequences through a shallow model.

    Args:
        head: with the objective's loss; else the vectors' sum stands for it, and no head is worked out.
        train: with a backward pass; else the forward pass keeps nothing.
    """

    def make() -> list[Any]:
        model = subject.model(config)
        model.train(train)
        head_parameters(model)  # found once in a run, so not a part of the step
        wrap_blocks(model, mode)
        for p in model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(_forget)
        return [model, *subject.batch(config, rows)]

    def forward(state: list[Any]) -> None:
        model, objective, batch = state
        with torch.set_grad_enabled(train), autocast(subject.dtype):
            loss = objective.loss_sum(model, batch)[0] if head else _vectors(model, batch).sum()
            state.append(loss / objective.weight(batch))

    def backward(state: list[Any]) -> None:
        loss = state.pop()
        if train:
            loss.backward()

    first, second = trace_parts(make, forward, backward)
    return Passes(
        work_of(first.ops), work_of(second.ops), _square(first.ops),
        float(first.end_bytes - first.state_bytes), float(first.peak_bytes - first.end_bytes),
        float(second.peak_bytes - second.state_bytes), frozenset({*first.uncounted, *second.uncounted}),
    )  # fmt: skip


def _forget(parameter: Tensor) -> None:
    parameter.grad = None


def _vectors(model: Any, batch: Any) -> Tensor:
    """The body's last vectors, in the way in which the objectives ask for them."""
    if hasattr(batch, "source_mask"):
        memory = model.encode(batch.source, batch.source_mask)
        found: Tensor = model.hidden(batch.ids, memory, batch.source_mask)
    elif hasattr(batch, "types"):
        found = model.hidden(batch.ids, attention_mask=batch.attention_mask, segments=batch.types)
    elif hasattr(batch, "attention_mask"):
        found = model.hidden(batch.ids, attention_mask=batch.attention_mask)
    else:
        found = model.hidden(batch.ids, segments=batch.segments)
    return found


def work_of(ops: Iterable[Op]) -> Work:
    """Operations by class; a product with a weight is one of ``products``, wherever it stands."""
    products = attention = elementwise = 0.0
    for op in ops:
        if op.kind in ("attention", "attention_backward") or op.name in BETWEEN_ACTIVATIONS:
            attention += op.flops * op.count
        elif op.kind == "matmul":
            products += op.flops * op.count
        if op.kind == "other" or op.name in _VECTOR:
            elementwise += float(op.bytes * op.count)
    return Work(products, 0.0, attention, elementwise)


def as_head(found: Passes) -> Passes:
    """The same with its products in the head's class."""
    return replace(found, forward=_head(found.forward), backward=_head(found.backward))


def _head(work: Work) -> Work:
    return replace(work, products=0.0, head=work.head + work.products)


def _square(ops: Iterable[Op]) -> float:
    return sum(_whole_square(op) * op.count for op in ops)


def _whole_square(op: Op) -> float:
    if op.kind == "attention":
        return 4.0 * op.batch * op.m * op.n * op.k
    return op.flops if op.name in BETWEEN_ACTIVATIONS else 0.0
