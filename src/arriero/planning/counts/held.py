"""What a model holds, whether it computes or not: parameters, weights, gradients, the optimizer's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from arriero.cost.operations import tensors
from arriero.cost.trace import trace
from arriero.cost.workload import Parameters, Work
from arriero.models.checkpoint import build_model
from arriero.models.config import ModelConfig
from arriero.models.layers.quantized import QuantizedLinear, WeightScheme, quantizable
from arriero.planning.counts.depths import Depths
from arriero.planning.counts.passes import work_of
from arriero.planning.counts.subject import PACKED_BITS, Held, Subject
from arriero.training.objectives.head import head_parameters
from arriero.training.optimizers.make import make_optimizer
from arriero.training.optimizers.roles import parameter_roles
from arriero.training.settings import TrainSettings

_GROUPS = (128, 64, 32, 16)
"""Inputs that share a scale in 4 bits: the most that divide the row."""


@dataclass(frozen=True)
class Holding:
    """Parameters, and bytes a trained parameter has for its gradient and for the optimizer's state."""

    parameters: Parameters
    gradient: float
    state: float


def held_by(subject: Subject, depths: Depths) -> Holding:
    """What the whole model holds, from its shallow ones."""
    found = {
        config: _sizes(subject, config) for config in (depths.base, *(kind.more for kind in depths.kinds))
    }

    def whole(part: str) -> tuple[float, float]:
        return depths.whole(lambda config: getattr(found[config], part))

    blocks, rest = whole("parameters")
    block = round(blocks / depths.layers)
    trained = sum(whole("trained"))
    parameters = Parameters(
        block=block, rest=round(blocks + rest) - block * depths.layers, looked_up=round(sum(whole("looked_up"))),
        trained=round(trained), total=round(blocks + rest), weight_bytes=sum(whole("weight_bytes")),
    )  # fmt: skip
    return Holding(parameters, sum(whole("gradient_bytes")) / trained, sum(whole("state_bytes")) / trained)


def unpacking(subject: Subject, depths: Depths) -> Work:
    """Unpacking the packed weights of one block once: bytes alone, no arithmetic that counts."""
    if subject.held not in PACKED_BITS or not depths.kinds:
        return Work()
    blocks, _ = depths.whole(lambda config: _unpacked(subject, config))
    return Work(elementwise=blocks / depths.layers)


def _unpacked(subject: Subject, config: ModelConfig) -> float:
    dtype = torch.float32 if subject.dtype == "fp32" else torch.bfloat16

    def run(layers: list[QuantizedLinear]) -> None:
        for layer in layers:
            layer.dequantised(dtype)

    def make() -> list[QuantizedLinear]:
        return [packed_layer(layer, subject.held) for layer in quantizable(build_model(config)).values()]

    return work_of(trace(make, run).ops).elementwise


def head_gradient(subject: Subject, config: ModelConfig) -> float:
    """Bytes of the head's gradient where the loss makes it in the forward pass already (``objectives.head``)."""
    if subject.objective in ("dpo", "scalar", "regression"):
        return 0.0
    found: list[float] = []

    def run(_: Any) -> None:
        found.append(float(sum(_size(p) for p in head_parameters(subject.model(config)))))

    trace(list, run)
    return found[0]


@dataclass(frozen=True)
class _Sizes:
    """Parameters and bytes of one shallow model."""

    parameters: int
    trained: int
    looked_up: int
    weight_bytes: float
    state_bytes: float
    gradient_bytes: float


def _sizes(subject: Subject, config: ModelConfig) -> _Sizes:
    """What the model of a configuration holds, with the optimizer's state; nothing is allocated."""
    found: list[_Sizes] = []

    def run(_: Any) -> None:
        plain = build_model(config)
        roles = parameter_roles(plain)
        looked_up = sum(p.numel() for name, p in plain.named_parameters() if roles[name] == "embedding")
        model = subject.model(config)
        optimizer = make_optimizer(model, TrainSettings(optimizer=subject.optimizer))
        state = sum(t.numel() * t.element_size() for t in tensors(dict(optimizer.state)) if t.numel() > 1)
        trained = [p for p in model.parameters() if p.requires_grad]
        count, held = sum(p.numel() for p in model.parameters()), _weight_bytes(subject, plain, model)
        gradient = float(sum(_size(p) for p in trained))
        found.append(_Sizes(count, sum(p.numel() for p in trained), looked_up, held, float(state), gradient))

    trace(list, run)
    return found[0]


def _weight_bytes(subject: Subject, plain: Any, model: Any) -> float:
    """Of the model as it is held: with ``int8`` and ``int4`` the blocks' linear layers are packed, all else is fp32."""
    held = sum(_size(p) for p in model.parameters())
    if subject.held not in PACKED_BITS:
        return float(held)
    for layer in quantizable(plain).values():
        packed = packed_layer(layer, subject.held)
        held += _size(packed.weight_packed) + _size(packed.weight_scale) - _size(layer.weight)
    return float(held)


def packed_layer(layer: Any, held: Held) -> QuantizedLinear:
    """The quantised twin of a linear layer, its weights unset."""
    group = None
    if held == "int4":
        group = next((size for size in _GROUPS if layer.in_features % size == 0), None)
    return QuantizedLinear(
        layer.in_features,
        layer.out_features,
        WeightScheme(PACKED_BITS[held], group),
        bias=layer.bias is not None,
    )


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
