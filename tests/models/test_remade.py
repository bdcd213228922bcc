"""Inputs made again in the backward pass: the same gradients, less kept, and nothing held for longer than it must."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from arriero.models.layers import remade as module
from arriero.models.layers.feedforward import FeedForward
from arriero.models.layers.linear import Linear
from arriero.models.layers.norm import LayerNorm, RMSNorm
from arriero.models.layers.remade import linear_of, remade, remade_like


def double(x: Tensor) -> Tensor:
    return x * 2


def made_from(x: Tensor) -> Tensor:
    return remade(double(x), double, x)


def grads(make: Any, x: Tensor, weights: list[Tensor], bias: Tensor | None) -> list[Tensor]:
    y = make(x)
    loss = sum((linear_of(y, w, bias).sin().sum() for w in weights), torch.zeros(()))
    wanted = [x, *weights, *([] if bias is None else [bias])]
    return [loss.detach(), *torch.autograd.grad(loss, wanted)]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), st.integers(1, 3), st.booleans(),
    st.integers(0, 2**31),
)  # fmt: skip
def test_gradients_are_those_of_a_kept_input(
    rows: int, width: int, out: int, products: int, with_bias: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, rows, width, generator=generator, requires_grad=True)
    weights = [torch.randn(out, width, generator=generator, requires_grad=True) for _ in range(products)]
    bias = torch.randn(out, generator=generator, requires_grad=True) if with_bias else None
    plain = [F.linear(double(x), w, bias).sin().sum() for w in weights]
    wanted = [x, *weights, *([] if bias is None else [bias])]
    expected = torch.autograd.grad(sum(plain[1:], plain[0]), wanted)
    for found, exact in zip(grads(made_from, x, weights, bias)[1:], expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_it_is_made_once_for_all_products_and_again_for_another_backward_pass() -> None:
    calls = 0

    def count(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return double(x)

    x = torch.randn(3, 4, requires_grad=True)
    y = remade(count(x), count, x)
    weights = [torch.randn(5, 4, requires_grad=True) for _ in range(3)]
    loss = sum((linear_of(y, w, None).sin().sum() for w in weights), torch.zeros(()))
    assert calls == 1
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    assert calls == 2
    second = torch.autograd.grad(loss, weights)
    assert calls == 3 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("marked", [False, True])
def test_a_tensor_in_another_place_is_made_again_from_where_it_came(marked: bool) -> None:
    moves = 0

    def move(x: Tensor) -> Tensor:
        nonlocal moves
        moves += 1
        return torch.cat((x, x))

    x = torch.randn(3, 4, requires_grad=True)
    weights = [torch.randn(5, 4, requires_grad=True) for _ in range(2)]

    def loss_of(y: Tensor) -> Tensor:
        return sum((linear_of(y, w, None).sin().sum() for w in weights), torch.zeros(()))

    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(id(t), t), lambda t: t):
        first = made_from(x) if marked else double(x)
        moved = remade_like(first, move(first), move)
        loss = loss_of(moved)
    assert moves == 1
    assert not any(t.data_ptr() == moved.data_ptr() for t in kept.values()), "the moved one is not kept"
    assert any(t is x for t in kept.values()) == marked, "what the first one is made from is"
    found = torch.autograd.grad(loss, [x, *weights])
    assert moves == 2
    expected = torch.autograd.grad(loss_of(torch.cat((double(x), double(x)))), [x, *weights])
    for one, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(one, exact)


def test_what_was_begun_is_waited_for_after_the_gradient_of_the_first_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So what has to come from elsewhere comes beside a product, and no second product waits for it."""
    seen: list[str] = []

    def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            seen.append(name)
            return function(*args)

        return call

    def begin(x: Tensor) -> Callable[[], Tensor]:
        return told("came", lambda: double(x))

    for name in ("input_gradient", "gradient_of_weight"):
        monkeypatch.setattr(module, name, told(name, getattr(module, name)))
    x = torch.randn(3, 4, requires_grad=True)
    weights = [torch.randn(5, 4, requires_grad=True) for _ in range(2)]
    y = remade_like(made_from(x), double(double(x)), told("begun", begin))
    loss = sum((linear_of(y, w, None).sin().sum() for w in weights), torch.zeros(()))
    found = torch.autograd.grad(loss, [x, *weights])
    products = ["input_gradient", "gradient_of_weight"]
    assert seen == ["begun", products[0], "came", products[1], *products]
    expected = torch.autograd.grad(sum((4 * x @ w.T).sin().sum() for w in weights), [x, *weights])
    for one, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(one, exact, rtol=1e-4, atol=1e-4)


def test_a_frozen_weight_makes_nothing_again() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("the input is for the weight's gradient alone")

    x = torch.randn(3, 4, requires_grad=True)
    linear_of(remade(double(x), never, x), torch.randn(5, 4), None).sum().backward()
    assert x.grad is not None


def test_what_it_is_made_from_goes_with_the_graph() -> None:
    """The backward pass frees what it has used as it goes; a second owner would keep it to the end."""
    x = torch.randn(3, 4, requires_grad=True)
    source = x.sin()
    freed = weakref.ref(source)
    out = linear_of(remade(double(source), double, source), torch.randn(5, 4, requires_grad=True), None)
    node = out.grad_fn
    del source
    out.sum().backward()
    gc.collect()
    assert node is not None and freed() is None, "the node is alive, what it was made from is not"


def kept_bytes(layer: Any, x: Tensor) -> int:
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x)
    for p in layer.parameters():
        seen.pop(p.untyped_storage().data_ptr(), None)
    assert out.requires_grad
    return sum(seen.values())


@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
def test_a_norm_and_its_product_keep_one_tensor(norm: Any) -> None:
    layer = torch.nn.Sequential(norm(64, 1e-5), Linear(64, 32))
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(4, 50, 64).requires_grad_()
    one = x.numel() * 4
    assert one <= kept_bytes(layer, x) < 1.1 * one


@pytest.mark.parametrize(("gated", "activation", "kept"), [(True, "silu", 2), (False, "gelu", 1)])
def test_a_feed_forward_layer_keeps_what_its_activation_came_from(
    gated: bool, activation: str, kept: int
) -> None:
    layer = FeedForward(16, 96, activation, gated)
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(4, 32, 16).requires_grad_()
    wide, narrow = 4 * 32 * 96 * 4, x.numel() * 4
    assert kept_bytes(layer, x) == kept * wide + narrow


def test_it_is_the_same_on_every_device() -> None:
    x = torch.randn(3, 4, device="meta", requires_grad=True)
    assert hasattr(remade(double(x), double, x), module._RECIPE)
    with torch.no_grad():
        assert not hasattr(made_from(torch.randn(3, 4)), module._RECIPE)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("marked", [False, True])
def test_no_narrow_copy_of_a_weight_is_kept(marked: bool, frozen: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, generator=generator, requires_grad=True)
    weight = torch.randn(16, 6, generator=generator, requires_grad=not frozen)
    bias = torch.randn(16, generator=generator, requires_grad=True)
    wanted = [x, bias, *([] if frozen else [weight])]
    with torch.autocast("cpu", torch.bfloat16):
        exact = F.linear(double(x), weight, bias)
        found = linear_of(made_from(x) if marked else double(x), weight, bias)
    assert torch.equal(found, exact)
    kept = [t for t in found.grad_fn.saved_tensors if t is not None]
    assert not any(t.dtype == torch.bfloat16 and t.shape == weight.shape for t in kept)
    assert any(t is weight or t.data_ptr() == weight.data_ptr() for t in kept)
    for ours, theirs in zip(
        torch.autograd.grad(found.float().sin().sum(), wanted),
        torch.autograd.grad(exact.float().sin().sum(), wanted), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
        assert ours.dtype == theirs.dtype
