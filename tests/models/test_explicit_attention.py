"""Explicit attention against torch's own in float64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from arriero.models.layers import explicit_attention
from arriero.models.layers.explicit_attention import attend_explicit

CASES = list(
    itertools.product(
        [(4, 4), (6, 2), (3, 1)],
        [(5, 5), (1, 7), (33, 33)],
        ["causal", "causal mask", "mask", "narrow", "of rows", "none"],
    )
)


@pytest.mark.parametrize("block", [16, 128])
@pytest.mark.parametrize("at_a_time", ["all", "a row", "a head"])
@pytest.mark.parametrize(("heads", "lengths", "kind"), CASES)
def test_it_is_torchs_attention(
    monkeypatch: pytest.MonkeyPatch,
    heads: tuple[int, int],
    lengths: tuple[int, int],
    kind: str,
    at_a_time: str,
    block: int,
) -> None:
    monkeypatch.setattr(explicit_attention, "_BLOCK", block)
    row = heads[0] * lengths[0] * (lengths[0] if kind == "causal" else lengths[-1]) * 8
    limit = {"all": row + 1, "a row": row, "a head": 1}[at_a_time]
    monkeypatch.setattr(explicit_attention, "_SCORE_BYTES", limit)
    generator = torch.Generator().manual_seed(0)
    (n_heads, n_kv), (length, n_keys) = heads, lengths
    if "causal" in kind and length != n_keys:
        n_keys = length
    shapes = [(2, n_heads, length, 8), (2, n_kv, n_keys, 8), (2, n_kv, n_keys, 8)]
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    mask = None
    shape = {
        "mask": (1, n_heads, length, n_keys), "causal mask": (2, n_heads, length, n_keys), "narrow": (length, 1), "of rows": (2, 1, 1, n_keys),
    }.get(kind)  # fmt: skip
    if shape is not None:
        mask = torch.randn(shape, generator=generator, dtype=torch.float64)
        if kind == "causal mask":
            mask = mask.masked_fill(torch.ones(length, length).triu(1) > 0, -torch.inf)
        mask.requires_grad_()
    wanted = [q, k, v] if mask is None else [q, k, v, mask]
    found = attend_explicit(q, k, v, mask, "causal" in kind, 0.3)
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
        torch.testing.assert_close(attend_explicit(q, k, v, mask, "causal" in kind, 0.3), exact.detach())


def test_it_keeps_nothing_in_float32() -> None:
    q, k, v = (torch.randn(2, 4, 16, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        out = attend_explicit(q, k, v, None, True, None)
    kept = [t for t in out.grad_fn.saved_tensors if t is not None]  # type: ignore[union-attr]
    assert {t.dtype for t in kept} == {torch.bfloat16}
    assert sum(t.numel() for t in kept) == 3 * q.numel(), "nothing as wide as the scores"
