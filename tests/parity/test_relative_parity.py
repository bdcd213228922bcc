"""Transformer-XL's attention as XLNet has it in transformers (Transformer-XL itself left with version 5)."""

from __future__ import annotations

import pytest
import torch

from arriero.models.layers.positions import sinusoidal
from arriero.models.layers.relative_attention import RelativeAttention

pytest.importorskip("transformers")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("heads", "head_dim", "length"), [(3, 6, 11), (4, 2, 16), (1, 10, 1), (2, 5, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_scores_gradients_and_results(heads: int, head_dim: int, length: int, masked: bool) -> None:
    from transformers import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

    width = heads * head_dim
    config = XLNetConfig(
        d_model=width, n_head=heads, d_head=head_dim, d_inner=8, n_layer=1, vocab_size=9, attn_type="uni"
    )
    theirs, ours = XLNetRelativeAttention(config).eval(), RelativeAttention(width, heads, heads, head_dim)
    generator = torch.Generator().manual_seed(length)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
        for name in ("q", "k", "v", "r"):
            getattr(ours, f"{name}_proj").weight.copy_(getattr(theirs, name).flatten(1).t())
        ours.o_proj.weight.copy_(theirs.o.flatten(1))
        ours.content_bias.copy_(theirs.r_w_bias.flatten())
        ours.position_bias.copy_(theirs.r_r_bias.flatten())

    x = torch.randn(2, length, width, generator=generator)
    unseen = torch.ones(2, length, length).triu(1)
    if masked:
        segments = torch.arange(length) // torch.tensor([[3], [5]])
        unseen = torch.maximum(unseen, (segments[:, :, None] != segments[:, None, :]).float())
    places = XLNetModel(config).relative_positional_encoding(length, length, bsz=2)
    one, two = (x.clone().requires_grad_() for _ in range(2))
    expected, _ = theirs(one.transpose(0, 1), None, unseen.permute(1, 2, 0)[..., None], None, places, None)
    additive = torch.zeros(2, 1, length, length).masked_fill(unseen.bool()[:, None], -torch.inf)
    mixed = ours(two, sinusoidal(length, width), additive if masked else None)
    found = theirs.layer_norm(mixed + two)  # theirs adds the input and norms
    assert torch.allclose(found, expected.transpose(0, 1), atol=1e-5)
    upstream = torch.randn(found.shape, generator=generator)
    found.backward(upstream)
    expected.backward(upstream.transpose(0, 1))
    assert torch.allclose(two.grad, one.grad, atol=1e-4)
    assert torch.allclose(ours.r_proj.weight.grad.t(), theirs.r.grad.flatten(1), atol=1e-4)
    assert torch.allclose(ours.content_bias.grad, theirs.r_w_bias.grad.flatten(), atol=1e-4)
    assert torch.allclose(ours.position_bias.grad, theirs.r_r_bias.grad.flatten(), atol=1e-4)
