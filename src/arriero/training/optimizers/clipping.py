"""Clipping of the gradient by its joint norm (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

import torch

from arriero.models.layers.known import values_known

_SCALE = "grad_scale"
"""Attribute of torch's fused optimizers: what their step divides the gradients by."""


def clip_gradients(
    parameters: list[torch.nn.Parameter], limit: float, optimizer: torch.optim.Optimizer | None = None
) -> torch.Tensor:
    """Scale the gradients so that their joint norm is at most ``limit`` (0: leave them); return the norm before.

    Args:
        optimizer: of these parameters and no others. Where its step can scale them (:func:`let_step_scale`) that is left
            to it, which has them at hand then: a pass over all gradients less. Call this before each of its steps.
    """
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    left_to_step = optimizer is not None and hasattr(optimizer, _SCALE)
    if left_to_step:
        setattr(optimizer, _SCALE, None)
    if not limit or _short_enough(norm, limit):
        return norm
    if left_to_step and _plain(norm):
        setattr(optimizer, _SCALE, ((norm + 1e-6) / limit).float())
    else:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def let_step_scale(optimizer: torch.optim.Optimizer) -> None:
    """Say of an optimizer in torch's ``fused`` form that its step may do what clipping asks for."""
    setattr(optimizer, _SCALE, None)


def _plain(norm: torch.Tensor) -> bool:
    """True on a processor where nobody looks on; elsewhere a plan sees the gradients scaled by themselves."""
    return norm.device.type == "cpu" and values_known(norm) and not torch._C._len_torch_dispatch_stack()


def _short_enough(norm: torch.Tensor, limit: float) -> bool:
    """True where torch would scale by 1: a pass over all gradients for nothing. Asked on a processor alone, since the
    answer of a GPU would have to be waited for."""
    return norm.device.type == "cpu" and values_known(norm) and bool(limit / (norm + 1e-6) >= 1.0)
