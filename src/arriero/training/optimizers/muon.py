"""Muon for the hidden matrices and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arriero.training.optimizers.adamw import make_adamw
from arriero.training.optimizers.closure import loss_of, with_gradients
from arriero.training.optimizers.cut import Cut
from arriero.training.settings import TrainSettings

MOMENTUM = 0.95
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, LEAST_NORM = (3.4445, -4.7750, 2.0315), 5, 1e-7
"""Of the quintic iteration, as torch's Muon and its author have them."""


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest orthogonal matrix, bfloat16 of the same shape, by torch's Muon's operations."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    x = x.T if tall else x
    x = x / x.norm().clamp(min=LEAST_NORM)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class CutMuon(torch.optim.Muon):
    """Torch's Muon for matrices of which this process has a part: the momentum is put together for its iteration, one
    matrix at a time, and every process takes its part of the result."""

    def __init__(
        self, matrices: Sequence[nn.Parameter], cuts: Mapping[Tensor, Cut], settings: TrainSettings
    ) -> None:
        super().__init__(list(matrices), **_muon_options(settings))
        self._cuts = cuts

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = loss_of(closure)
        for p, gradient, group in with_gradients(self.param_groups):
            self._update(p, gradient, group["lr"], group["weight_decay"])
        return loss

    def _update(self, p: Tensor, grad: Tensor, rate: float, weight_decay: float) -> None:
        cut, momentum = self._cuts[p], self.state[p]["momentum_buffer"]
        momentum.lerp_(grad, 1 - MOMENTUM)
        found = cut.mine(orthogonal(cut.whole(grad.lerp(momentum, MOMENTUM))))
        p.mul_(1 - rate * weight_decay)
        p.add_(found, alpha=-rate * 0.2 * max(cut.shape) ** 0.5)


def _muon_options(settings: TrainSettings) -> dict[str, Any]:
    return {
        "lr": settings.learning_rate, "weight_decay": settings.weight_decay, "momentum": MOMENTUM, "nesterov": True,
        "adjust_lr_fn": "match_rms_adamw",
    }  # fmt: skip


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) is torch's own: the momentum's matrix is brought
    near the closest orthogonal one by five Newton-Schulz steps in bfloat16.

    Its steps are scaled by 0.2 sqrt(max(rows, columns)), so that they are as large as AdamW's and one learning rate and
    one weight decay serve both (Liu et al., arXiv 2502.16982, section 2.2).

    Args:
        matrices: the hidden matrices, two-dimensional.
        others: groups for AdamW, with their ``weight_decay``.
        cuts: of the parameters of which this process has a part.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[Mapping[str, Any]],
        settings: TrainSettings,
        cuts: Mapping[Tensor, Cut] | None = None,
    ) -> None:
        super().__init__([{"params": list(matrices)}, *(dict(g) for g in others)], {})
        self._parts: list[torch.optim.Optimizer] = []
        cut = [p for p in matrices if cuts and p in cuts]
        whole = [p for p in matrices if not (cuts and p in cuts)]
        if whole:
            self._parts.append(torch.optim.Muon(whole, **_muon_options(settings)))
        if cut:
            self._parts.append(CutMuon(cut, cuts or {}, settings))
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
        loss = loss_of(closure)
        for part in self._parts:
            part.step()
        return loss
