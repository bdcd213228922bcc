"""Muon for the hidden matrices and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from arriero.training.optimizers.adamw import make_adamw
from arriero.training.settings import TrainSettings

MOMENTUM = 0.95


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) is torch's own: the momentum's matrix is brought
    near the closest orthogonal one by five Newton-Schulz steps in bfloat16.

    Its steps are scaled by 0.2 sqrt(max(rows, columns)), so that they are as large as AdamW's and one learning rate and
    one weight decay serve both (Liu et al., arXiv 2502.16982, section 2.2).

    Args:
        matrices: the hidden matrices, two-dimensional.
        others: groups for AdamW, with their ``weight_decay``.
    """

    def __init__(
        self, matrices: Sequence[nn.Parameter], others: Sequence[Mapping[str, Any]], settings: TrainSettings
    ) -> None:
        super().__init__([{"params": list(matrices)}, *(dict(g) for g in others)], {})
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            muon = torch.optim.Muon(
                list(matrices), lr=settings.learning_rate, weight_decay=settings.weight_decay,
                momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw",
            )  # fmt: skip
            self._parts.append(muon)
        if others:
            self._parts.append(make_adamw(others, settings))
        # the parts work on the very groups and the very state that the loop sees
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for part in self._parts:
            self.state.update(part.state)
            part.state = self.state
        for p in matrices:
            self.state[p] = {"momentum_buffer": torch.zeros_like(p, memory_format=torch.preserve_format)}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
