"""Clipping of the gradient by its joint norm (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

import torch


def clip_gradients(parameters: list[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Scale the gradients so that their joint norm is at most ``limit`` (0: leave them); return the norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
