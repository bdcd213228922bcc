"""What is traced for a workload: everything that decides on the figures but the depth.

Loads no torch before something is traced: what was traced before is looked up (``counts.traces``)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from arriero.cost.workload import Dtype
from arriero.models.config import ModelConfig

Held = Literal["fp32", "bf16", "int8", "int4"]
PACKED_BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class Subject:
    """What is traced: everything that decides on the figures but the depth.

    Attributes:
        scored: positions of a sequence that go through the head. source: tokens of the source, of pairs.
        targets: layers with adapters. held: how the weights are kept.
    """

    objective: str
    context: int
    scored: int
    source: int | None
    dtype: Dtype
    rank: int
    targets: str
    held: Held
    optimizer: str
    document_mask: bool

    @property
    def unit(self) -> int:
        """Fewest sequences of a micro-batch: a pair with DPO."""
        return 2 if self.objective == "dpo" else 1

    def with_scored(self, scored: int) -> Subject:
        """The same with so many scored positions a sequence; sequences of as many where all are scored."""
        return replace(self, scored=scored, context=scored if self.scored == self.context else self.context)

    def model(self, config: ModelConfig) -> Any:
        """The network as it is trained, its adapters on it."""
        from arriero.models.checkpoint import build_model

        model = build_model(config)
        self.adapt(model)
        return model

    def adapt(self, model: Any) -> None:
        """Make what ``build_model`` gave the network that is trained."""
        if self.held == "bf16":
            _hold_in_bf16(model)
        if self.objective == "scalar":
            from arriero.planning.counts.objectives import add_scalar_head

            add_scalar_head(model)
        if self.rank:
            from arriero.tuning.lora import apply_lora

            apply_lora(model, self.rank, 2.0 * self.rank, 0.0, self.targets.split(","), 0)

    def batch(self, config: ModelConfig, rows: int) -> Any:
        """(objective, batch) of ``rows`` sequences."""
        from arriero.planning.counts.objectives import planned_objective, planned_shape

        objective = planned_objective(config, self.objective, self.context)
        masked = self.document_mask and self.objective == "causal"
        shape = planned_shape(self.objective, rows, self.context, self.scored, self.source, masked)
        return objective, objective.synthetic(shape)


def _hold_in_bf16(model: Any) -> None:
    """As ``model.to(torch.bfloat16)``, which cannot swap fake tensors that something else refers to; ties stay ties."""
    import torch
    from torch import nn

    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None and p.is_floating_point():
                if id(p) not in made:
                    made[id(p)] = nn.Parameter(p.detach().to(torch.bfloat16), requires_grad=p.requires_grad)
                module._parameters[name] = made[id(p)]
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(torch.bfloat16)
