"""torch's own counter around the real training step on real tensors, with what it counts wrongly put right.

What ``FlopCounterMode`` of torch 2.11 to 2.13 counts as nothing, and is mapped here:

* attention on the CPU, forward and backward (pytorch/pytorch#195460);
* products with a vector (``mv``), in the backward pass of RMSNorm;
* products added in place (``addmm_``), in the gradient of the head's table;
* oneDNN's products (``mkldnn::_linear_pointwise``), which Arriero takes on AMD's processors;
* oneDNN's LSTM, forward and backward.

What it counts rightly, and differently: the full square of causal attention where the kernel skips half of it. ``half``
says which of the two is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from arriero.models.config import ModelConfig
from arriero.planning.counts.passes import Recompute
from arriero.planning.counts.subject import Subject
from arriero.training.recompute import wrap_blocks
from arriero.training.step import accumulate

Shape = Any


def _product(*places: int) -> Callable[..., int]:
    def flops(*shapes: Shape, out_shape: Shape = None, **kwargs: Any) -> int:
        a, b = (shapes[place] for place in places)
        return 2 * math.prod(a) * (b[1] if len(b) > 1 else 1)

    return flops


def _linear(x: Shape, weight: Shape, *others: Any, out_shape: Shape = None, **kwargs: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _lstm(times: int) -> Callable[..., int]:
    def flops(
        x: Shape, to_input: Shape, to_state: Shape, *others: Any, out_shape: Shape = None, **k: Any
    ) -> int:
        return times * 2 * x[0] * x[1] * (math.prod(to_input) + math.prod(to_state))

    return flops


def _attention(factor: float, first: int, half: bool) -> Callable[..., int]:
    """Positions of ``is_causal`` are those of aten's schemas."""

    def flops(*shapes: Shape, out_shape: Shape = None, is_causal: bool = False, **kwargs: Any) -> int:
        query, key, value = shapes[first : first + 3]
        place = 4 if first == 0 else 7
        causal = is_causal or (len(shapes) > place and shapes[place] is True)
        pairs = math.prod(query[:-1]) * key[-2]
        return int(factor * 2 * pairs * (query[-1] + value[-1]) * (0.5 if causal and half else 1))

    return flops


def mapping(half: bool) -> dict[Any, Callable[..., int]]:
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention(1, 0, half),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention(2.5, 1, half),
        aten.mv: _product(0, 1),
        aten.addmm_: _product(1, 2),
        torch.ops.mkldnn._linear_pointwise: _linear,
        aten.mkldnn_rnn_layer: _lstm(1),
        aten.mkldnn_rnn_layer_backward: _lstm(2),
    }


class _NoModules:
    """In place of the counter's tracker of modules, which fails on the gradients that Arriero's losses take inside the
    forward pass ("currently running autograd.grad()")."""

    parents: ClassVar[set[str]] = {"Global"}

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def counted(run: Callable[[], Any], *, half: bool = True) -> int:
    """FLOPs of ``run`` by torch's counter."""
    counter = FlopCounterMode(display=False, custom_mapping=mapping(half))
    counter.mod_tracker = _NoModules()
    with counter:
        run()
    return int(counter.get_total_flops())


def subject(objective: str, context: int, **changes: Any) -> Subject:
    """A subject whose every position is scored, in fp32."""
    values: dict[str, Any] = {
        "objective": objective, "context": context, "scored": context, "source": None, "dtype": "fp32", "rank": 0,
        "targets": "all-linear", "held": "fp32", "optimizer": "adamw", "document_mask": True,
    }  # fmt: skip
    return Subject(**{**values, **changes})


def real_step(
    what: Subject, config: ModelConfig, rows: int, *, recompute: Recompute = "none", half: bool = True
) -> int:
    """The counter's FLOPs of one micro-batch, forward and backward, of the model with real weights."""
    model = what.model(config)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.02)
    model.train()
    wrap_blocks(model, recompute)
    objective, batch = what.batch(config, rows)
    accumulate(model, objective, [batch], 1, what.dtype)  # the head's parameters are looked for once
    return counted(
        lambda: accumulate(model, objective, [batch], objective.weight(batch), what.dtype), half=half
    )
