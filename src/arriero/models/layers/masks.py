"""Who sees whom: additive masks of attention, 0 where a token is seen and -inf where it is not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionRule:
    """What else than causality decides who sees whom, and how strongly.

    Attributes:
        window: a token sees itself and ``window - 1`` tokens before it (Mistral, arXiv 2310.06825).
        slopes: float [H], ALiBi's penalty of each head for a step of distance.
        by_distance: [B, H, T, D], what is added to the score of each query for a key 0, 1 ... D - 1 tokens before it.
            It follows from a layer's queries, so each layer has a rule of its own.
    """

    window: int | None
    slopes: Tensor | None
    by_distance: Tensor | None = None

    @property
    def shared(self) -> bool:
        """Every layer of the model has the same rule."""
        return self.by_distance is None

    def apply(self, allowed: Tensor, distance: Tensor, dtype: torch.dtype) -> Tensor:
        """Additive mask [..., 1 or H, T, S]; with ``by_distance`` [B, H, T, S].

        Args:
            allowed: bool [..., T, S]: what causality lets through.
            distance: int64 [..., T, S]: how far the key lies before the query, in tokens; less than D.
        """
        if self.window is not None:
            allowed = allowed & (distance < self.window)
        mask = torch.zeros((), dtype=dtype, device=allowed.device)
        if self.slopes is not None:
            mask = (-self.slopes.float()[:, None, None] * distance.unsqueeze(-3)).to(dtype)
        if self.by_distance is not None:
            index = distance.clamp(min=0).unsqueeze(-3)
            mask = mask + self.by_distance.gather(-1, index.expand(*self.by_distance.shape[:-1], -1)).to(
                dtype
            )
        return torch.where(allowed.unsqueeze(-3), mask, torch.full_like(mask, -math.inf))


def causal_mask(length: int, rule: AttentionRule, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """Additive mask [1, 1 or H, T, T] of a causal sequence under a rule; None where causality alone says it."""
    if rule.slopes is None and (rule.window is None or rule.window >= length):
        return None
    return rule.apply(*_causality(length, device), dtype).unsqueeze(0)


def segment_mask(segments: Tensor, dtype: torch.dtype, rule: AttentionRule | None = None) -> Tensor:
    """Additive mask [B, 1 or H, T, T]: a token sees itself and earlier tokens of its own segment [B, T].

    Padding (negative segments) sees the padding before it, so no row is empty and no result is NaN.
    """
    same = segments.unsqueeze(2) == segments.unsqueeze(1)
    if rule is not None:
        causal, distance = _causality(segments.shape[1], segments.device)
        return rule.apply(same & causal, distance, dtype)
    mask = torch.zeros(same.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(same.tril_().logical_not_(), -math.inf).unsqueeze(1)


def _causality(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which keys lie at or before each query [T, T], and how far."""
    index = torch.arange(length, device=device)
    distance = index[:, None] - index[None, :]
    return distance >= 0, distance


def segment_positions(segments: Tensor) -> Tensor:
    """Positions [B, T] that start from 0 wherever the segment number [B, T] changes."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = torch.zeros_like(index)
    starts[:, 1:] = index[:, 1:] * (segments[:, 1:] != segments[:, :-1])
    return index - starts.cummax(dim=1).values


def padding_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Additive mask [B, 1, 1, S] of an attention_mask [B, S] of 1 (token) and 0 (padding); None if all are tokens.

    A row of nothing but padding sees everything, so that no result is NaN.
    """
    return None if bool(attention_mask.all()) else key_mask(attention_mask, dtype)


def key_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """As :func:`padding_mask`, but made whatever the values are, so that fake tensors will do."""
    seen = attention_mask.bool()
    seen = seen | ~seen.any(dim=1, keepdim=True)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -math.inf)
    return mask[:, None, None, :]
