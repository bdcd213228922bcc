"""Clipping of the gradient by its joint norm (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

import torch

from arriero.models.layers.known import values_known


def clip_gradients(parameters: list[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients so that their joint norm is at most ``limit`` (0: leave them); return the norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit and not _short_enough(norm, limit):
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def _short_enough(norm: torch.Tensor, limit: float) -> bool:
    """True where torch would scale by 1: a pass over all gradients for nothing. Asked on a processor alone, since the
    answer of a GPU would have to be waited for."""
    return norm.device.type == "cpu" and values_known(norm) and bool(limit / (norm + 1e-6) >= 1.0)
