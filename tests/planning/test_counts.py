"""Classes of operations, and what is said of an operation that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.planning.oracle import subject
from tests.planning.small_models import small

from arriero.cost.trace import Op
from arriero.cost.workload import Work
from arriero.models.layers.feedforward import FeedForward
from arriero.planning.counts.blocks import head_of
from arriero.planning.counts.passes import NOTHING, passes, work_of


def op(name: str, kind: Any, flops: float, size: int, count: int = 1) -> Op:
    return Op(name, kind, "float32", 1, 1, 1, 1, flops, size, count)


def test_operations_by_class() -> None:
    found = work_of(
        [
            op("mm", "matmul", 10, 99, 2), op("bmm", "matmul", 3, 99), op("mv", "matmul", 1, 5),
            op("_scaled_dot_product_flash_attention_for_cpu", "attention", 7, 99),
            op("_scaled_dot_product_flash_attention_for_cpu_backward", "attention_backward", 8, 99),
            op("mul", "other", 0, 6, 3), op("_fused_adamw_", "optimizer", 0, 1000),
        ]
    )  # fmt: skip
    assert found == Work(products=21, head=0, attention=18, elementwise=23)


def test_forward_and_backward_are_apart() -> None:
    config, what = small("gpt2", 2), subject("causal", 20)
    both, asked = passes(what, config, 2), passes(what, config, 2, train=False)
    weights = 2 * (4 * 24 * 24 + 2 * 24 * 52)
    assert both.forward.products == 2 * 2 * 20 * weights == asked.forward.products
    assert both.backward.products == 2 * both.forward.products
    assert both.backward.attention == 2.5 * both.forward.attention == 2.5 * asked.forward.attention
    assert both.square == 2 * both.forward.attention
    assert asked.backward == Work() and asked.saved < both.saved / 5
    assert (both - both) + NOTHING * 3 == both * 0


def test_a_product_outside_the_registry_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation whose name promises a product, in the midst of a block: counted as nothing, but not in silence."""

    @torch.library.custom_op("arriero_tests::strange_matmul", mutates_args=())
    def strange(x: torch.Tensor) -> torch.Tensor:
        return x @ torch.ones(x.shape[-1], x.shape[-1])

    strange.register_fake(torch.empty_like)
    strange.register_autograd(lambda ctx, gradient: gradient)
    plain = FeedForward.forward
    monkeypatch.setattr(FeedForward, "forward", lambda self, x: plain(self, strange(x)))
    found = passes(subject("causal", 9), small("gpt2", 1), 2)
    passes.cache_clear()
    assert found.uncounted == frozenset({"arriero_tests::strange_matmul"})


def test_pairs_as_long_as_the_context_are_counted() -> None:
    """The head's line may need more positions than the model's context has; it is the line of a model with more."""
    config = small("llama", 2)
    assert config.context_length < 2 * 320
    short = config.model_copy(update={"vocab_size": 200_000, "context_length": 96})
    longer = short.model_copy(update={"context_length": 4096})
    what = subject("dpo", 96)
    (one, peak), (other, other_peak) = head_of(short, what), head_of(longer, what)
    assert one == other and peak == other_peak
