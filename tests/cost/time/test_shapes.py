"""Counts from sizes alone against counts of the model that runs."""

from __future__ import annotations

import pytest

from arriero.cost.time.shapes import Shape, workload_of_shape
from arriero.models.decoder_config import DecoderConfig
from arriero.planning.counts.workload import workload_of


@pytest.mark.slow
def test_a_shapes_products_and_attention_are_the_models() -> None:
    """FLOP to the last digit, element-wise bytes of eager fp32 code within a fifth."""
    config = DecoderConfig(
        family="llama", d_model=192, n_layers=3, n_heads=6, n_kv_heads=2, d_ff=448, vocab_size=1000,
        context_length=256, tie_embeddings=False,
    )  # fmt: skip
    model = workload_of(config, context=256)
    shape = Shape(192, 3, 6, 1000, n_kv_heads=2, d_ff=448, gated=True, tied=False)
    mine = workload_of_shape(shape, 256, dtype="fp32", weight_bytes=4, gradient_bytes=4)
    for ours, theirs in (
        (mine.forward_block, model.forward_block), (mine.backward_block, model.backward_block),
    ):  # fmt: skip
        assert ours.products == pytest.approx(theirs.products, rel=1e-3)
        assert ours.attention == pytest.approx(theirs.attention, rel=1e-9)
        assert ours.elementwise == pytest.approx(theirs.elementwise, rel=0.2)
    assert mine.forward_rest.head == pytest.approx(model.forward_rest.head, rel=1e-9)
    assert mine.parameters.total == pytest.approx(
        model.parameters.total, rel=5e-3
    )  # norms' gains are left out
    assert mine.kv_token == model.kv_token
    assert mine.parameters.looked_up == model.parameters.looked_up


def test_scores_that_leave_the_chip_are_the_whole_square_and_travel() -> None:
    fused, whole = (workload_of_shape(Shape(192, 3, 6, 1000, fused=fused), 256) for fused in (True, False))
    assert whole.forward_block.attention == 2 * fused.forward_block.attention
    assert whole.forward_block.elementwise - fused.forward_block.elementwise == pytest.approx(
        6 * 6 * 256 * 256 * 2
    )
    assert whole.forward_block.products == fused.forward_block.products
