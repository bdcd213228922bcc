"""Explicit attention against torch's own in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from arriero.models.layers.explicit_attention import attend_explicit

CASES = list(
    itertools.product([(4, 4), (6, 2), (3, 1)], [(5, 5), (1, 7), (33, 33)], ["causal", "mask", "none"])
)


@pytest.mark.parametrize(("heads", "lengths", "kind"), CASES)
def test_it_is_torchs_attention(heads: tuple[int, int], lengths: tuple[int, int], kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    (n_heads, n_kv), (length, n_keys) = heads, lengths
    if kind == "causal" and length != n_keys:
        n_keys = length
    shapes = [(2, n_heads, length, 8), (2, n_kv, n_keys, 8), (2, n_kv, n_keys, 8)]
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    mask = None
    if kind == "mask":
        mask = torch.randn(
            1, n_heads, length, n_keys, generator=generator, dtype=torch.float64
        ).requires_grad_()
    wanted = [q, k, v] if mask is None else [q, k, v, mask]
    found = attend_explicit(q, k, v, mask, kind == "causal", 0.3)
    exact = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=kind == "causal", scale=0.3, enable_gqa=True
    )
    gradient = torch.randn(exact.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(found, exact)
    for a, b in zip(
        torch.autograd.grad(found, wanted, gradient),
        torch.autograd.grad(exact, wanted, gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(attend_explicit(q, k, v, mask, kind == "causal", 0.3), exact.detach())


def test_it_keeps_nothing_in_float32() -> None:
    q, k, v = (torch.randn(2, 4, 16, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend_explicit(q, k, v, None, True, None)
    kept = out.grad_fn.saved_tensors  # type: ignore[union-attr]
    assert {t.dtype for t in kept} == {torch.bfloat16}
    assert sum(t.numel() for t in kept) == 3 * q.numel() + 2 * 4 * 16 * 16
