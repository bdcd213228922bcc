"""What matrix products need in the backward pass and can be made again there rather than kept.

The weight's gradient needs the product's input. Where that input is the cheap result of what is kept anyway (a norm's
of the normalised stream, a gated activation's of gate and up), keeping it too is a large part of what a block
keeps, and making it again one pass over memory. The input's gradient needs the weight as it was in the product: in
bfloat16 a copy, of all weights at once at the end of the forward pass, which is made again from the float32 weight. The
values are made by the same operations, so they have the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from arriero.models.layers.precision import product_dtype
from arriero.products import linear

_RECIPE = "_arriero_remake"
Make = Callable[..., "Tensor | Callable[[], Tensor]"]


class Remake:
    """How a tensor is made again; the products that share it make it once.

    It holds no tensor while it waits: what it is made from is kept by autograd alone, which knows when to let go.

    Args:
        make: gives the tensor from its sources, by the operations that it first came from. Where it comes from other
            processes, ``make`` may begin alone, and return what waits for it and gives it.
    """

    def __init__(self, make: Make) -> None:
        self.make = make
        self._uses = self._left = 0
        self._made: Tensor | Callable[[], Tensor] | None = None

    def use(self) -> None:
        """One more product has this tensor as its input."""
        self._uses += 1
        self._left += 1

    def begin(self, sources: tuple[Tensor, ...]) -> None:
        """Begin to make the tensor, from its sources as the backward pass has them, unless another product did."""
        if self._made is None:
            self._made = self.make(*sources)

    def made(self) -> Tensor:
        """The tensor that was begun; forgotten after the last of its products."""
        assert self._made is not None
        made = _whole(self._made)
        self._left -= 1
        self._made = made if self._left else None
        self._left = self._left or self._uses
        return made


def remade(made: Tensor, make: Make, *sources: Tensor) -> Tensor:
    """``made``, marked so that :func:`linear_of` will not keep it.

    Args:
        make: gives the tensor from ``sources``, by the operations that it came from.
        sources: tensors that the backward pass keeps anyway.
    """
    if made.requires_grad and not torch.compiler.is_compiling():
        setattr(made, _RECIPE, (Remake(make), sources))
    return made


def remade_like(x: Tensor, moved: Tensor, again: Make) -> Tensor:
    """``moved``, marked so that :func:`linear_of` will make it again: from ``x``, or from what ``x`` is made of itself.

    Args:
        moved: the values of ``x`` in another place or form.
        again: gives them from ``x``, in the backward pass; as a ``make`` it may begin alone.
    """
    known: tuple[Remake, tuple[Tensor, ...]] | None = getattr(x, _RECIPE, None)
    if known is None:
        return remade(moved, again, x)
    recipe, sources = known
    return remade(moved, lambda *kept: again(_whole(recipe.make(*kept))), *sources)


def _whole(made: Tensor | Callable[[], Tensor]) -> Tensor:
    return made if isinstance(made, Tensor) else made()


def linear_of(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x W^T + b`` as :func:`arriero.products.linear`, keeping neither an ``x`` that can be made again nor a narrow copy
    of the weight. Weights that are cut over processes (DTensors, and what FSDP gathers) are no exception."""
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return linear(x, weight, bias)
    known: tuple[Remake, tuple[Tensor, ...]] | None = getattr(x, _RECIPE, None)
    narrowed = torch.is_autocast_enabled(x.device.type) and weight.dtype != product_dtype(x)
    if not (known or narrowed):
        return linear(x, weight, bias)
    recipe, sources = known or (None, ())
    result: Tensor = _LeanLinear.apply(x, weight, bias, recipe, *sources)
    return result


def input_gradient(gradient: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Of ``x W^T`` with respect to x, in ``dtype``: gradient [..., N], weight [N, K] -> [..., K]."""
    return linear(gradient, weight.to(dtype).t())


def gradient_of_weight(gradient: Tensor, x: Tensor) -> Tensor:
    """Of ``x W^T`` with respect to W: gradient [..., N], x [..., K] -> [N, K]."""
    return linear(gradient.reshape(-1, gradient.shape[-1]).t(), x.reshape(-1, x.shape[-1]).t())


class _LeanLinear(torch.autograd.Function):
    """Gradients of a remade ``x`` go to ``x``, whose own backward pass leads on to the sources."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, recipe: Remake | None, *sources: Tensor
    ) -> Tensor:
        ctx.dtype, ctx.x_dtype, ctx.has_bias = product_dtype(x), x.dtype, bias is not None
        ctx.recipe = recipe if ctx.needs_input_grad[1] else None
        x = x.to(ctx.dtype)
        kept: tuple[Tensor, ...] = ()
        if ctx.recipe:
            ctx.recipe.use()
            kept = sources
        elif ctx.needs_input_grad[1]:
            kept = (x,)
        ctx.save_for_backward(weight if ctx.needs_input_grad[0] else None, *kept)
        ctx.weight_dtype = weight.dtype
        return linear(x, weight.to(ctx.dtype), bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *kept = ctx.saved_tensors
        x_gradient = weight_gradient = bias_gradient = None
        if ctx.recipe:  # first, so that what other processes send of it can come during the input's gradient
            ctx.recipe.begin(tuple(kept))
        if ctx.needs_input_grad[0]:
            x_gradient = input_gradient(gradient, weight, ctx.dtype).to(ctx.x_dtype)
        if ctx.needs_input_grad[1]:
            x = ctx.recipe.made().to(ctx.dtype) if ctx.recipe else kept[0]
            weight_gradient = gradient_of_weight(gradient, x).to(ctx.weight_dtype)
        if ctx.has_bias and ctx.needs_input_grad[2]:
            bias_gradient = gradient.reshape(-1, gradient.shape[-1]).sum(0).to(ctx.weight_dtype)
        return x_gradient, weight_gradient, bias_gradient, None, *(None for _ in ctx.needs_input_grad[4:])
