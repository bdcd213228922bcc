"""Adafactor: AdamW's second moment by rows and columns alone, and no first one.

Torch has an Adafactor too; it reads numbers off its tensors at every step, which a trace on fake tensors cannot, and
which makes a GPU wait. ``tests/parity`` holds this one against it and against Hugging Face's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from arriero.training.optimizers.closure import loss_of, with_gradients
from arriero.training.optimizers.cut import Cut


class Adafactor(torch.optim.Optimizer):
    """Adafactor (Shazeer and Stern, arXiv 1804.04235, algorithms 4 and 5), with the schedule's step size.

    A step is ``lr * max(eps_scale, RMS(parameter))`` long, so ``lr`` is relative: 1e-2 is usual (section 8 of the
    paper; T5, arXiv 1910.10683). A tensor of shape [..., R, C] keeps R + C numbers a matrix and not R * C; vectors keep
    their second moment whole. Weight decay is decoupled: ``lr * weight_decay`` of the parameter a step.

    Args:
        groups: parameter groups with their ``weight_decay``.
        lr: relative step size.
        eps: added to the squared gradient.
        eps_scale: least size a parameter is taken for.
        clip: the update's greatest root mean square (d in the paper).
        decay: the second moment forgets with 1 - step^-decay.
        cuts: of the parameters of which this process has a part; the means over rows and columns, and the sizes, are
            those of the whole. Every process keeps all of a matrix' R + C numbers.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        lr: float,
        *,
        eps: float = 1e-30,
        eps_scale: float = 1e-3,
        clip: float = 1.0,
        decay: float = 0.8,
        cuts: Mapping[Tensor, Cut] | None = None,
    ) -> None:
        defaults = {"lr": lr, "eps": eps, "eps_scale": eps_scale, "clip": clip, "decay": decay}
        super().__init__([dict(group) for group in groups], {**defaults, "weight_decay": 0.0})
        self._cuts = dict(cuts or {})
        for group in self.param_groups:
            for p in group["params"]:
                moments = _moments(p, self._cuts.get(p))
                self.state[p] = {"step": torch.zeros((), dtype=torch.float32, device=p.device), **moments}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = loss_of(closure)
        for p, gradient, group in with_gradients(self.param_groups):
            _update(p, gradient, self.state[p], group, self._cuts.get(p))
        return loss


def _moments(p: Tensor, cut: Cut | None) -> dict[str, Tensor]:
    if p.dim() < 2:
        return {"variance": torch.zeros_like(p, memory_format=torch.preserve_format)}
    shape = p.shape if cut is None else cut.shape
    return {"row": p.new_zeros(shape[:-1]), "column": p.new_zeros((*shape[:-2], shape[-1]))}


def _update(
    p: Tensor, grad: Tensor, state: dict[str, Tensor], group: Mapping[str, Any], cut: Cut | None
) -> None:
    """One parameter's step; no number leaves its tensor."""
    state["step"] += 1
    new = state["step"] ** -group["decay"]  # share of the new square: 1 - beta2 of this step
    if cut is None:
        update = _normalised(grad, state, new, group["eps"])
    elif grad.dim() == 2:
        update = _normalised_part(grad, state, new, group["eps"], cut)
    elif grad.dim() < 2:
        update = _normalised(grad, state, new, group["eps"])
    else:  # stacks of matrices are few and small: convolutions
        update = cut.mine(_normalised(cut.whole(grad), state, new, group["eps"]))
    update /= (_rms(update, cut) / group["clip"]).clamp_(min=1.0)
    scale = _rms(p, cut).clamp_(min=group["eps_scale"])
    p.mul_(1 - group["lr"] * group["weight_decay"])
    p.sub_(update.mul_(scale * group["lr"]))


def _normalised(grad: Tensor, state: dict[str, Tensor], new: Tensor, eps: float) -> Tensor:
    """The gradient over the root of its second moment."""
    square = grad.square().add_(eps)
    if "variance" in state:
        return grad * state["variance"].lerp_(square, new).rsqrt()
    row = state["row"].lerp_(square.mean(dim=-1), new)
    column = state["column"].lerp_(square.mean(dim=-2), new)
    del square
    rows = (row / row.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
    return (grad * rows).mul_(column.rsqrt().unsqueeze(-2))


def _normalised_part(grad: Tensor, state: dict[str, Tensor], new: Tensor, eps: float, cut: Cut) -> Tensor:
    """As :func:`_normalised` for a part of a matrix: the sums over rows and columns are added up, nothing else."""
    square = grad.square().add_(eps)
    (rows, columns), (height, width) = cut.places, cut.shape
    sums = grad.new_zeros(height + width)
    sums[rows], sums[height + columns] = square.sum(dim=-1), square.sum(dim=-2)
    del square
    sums = cut.total(sums)
    row = state["row"].lerp_(sums[:height] / width, new)
    column = state["column"].lerp_(sums[height:] / height, new)
    factors = (row / row.mean()).rsqrt_()[rows].unsqueeze(-1)
    return (grad * factors).mul_(column.rsqrt()[columns])


def _rms(x: Tensor, cut: Cut | None) -> Tensor:
    if cut is None:
        return torch.linalg.vector_norm(x) / x.numel() ** 0.5
    return cut.total(x.square().sum()).sqrt() / cut.shape.numel() ** 0.5
