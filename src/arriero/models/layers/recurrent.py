"""Recurrent layers: a row of vectors and a state go in, as many states and the last one come out.

Parameters have the names and the layout of ``torch.nn.RNN`` and ``torch.nn.LSTM``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from arriero.products import linear

State = tuple[Tensor, ...]
"""Of one layer: (h,) of Elman's, (h, c) of the LSTM's, each [B, h]."""
_WORKSPACE = 15.3
"""Floats a state element that oneDNN's LSTM keeps for the backward pass (measured with torch 2.13: 15.1 to 15.4)."""


class RecurrentLayer(nn.Module):
    """``gates`` affine maps of the input and of the state before; subclasses make the new state of them."""

    def __init__(self, inputs: int, width: int, gates: int, two_biases: bool) -> None:
        super().__init__()
        self.width = width
        self.weight_ih = nn.Parameter(torch.empty(gates * width, inputs))
        self.weight_hh = nn.Parameter(torch.empty(gates * width, width))
        self.bias_ih = nn.Parameter(torch.empty(gates * width))
        self.bias_hh = nn.Parameter(torch.empty(gates * width)) if two_biases else None


class Elman(RecurrentLayer):
    """``h_t = tanh(W x_t + U h_{t-1} + b)`` (Elman, Finding Structure in Time, 1990)."""

    n_states = 1

    def __init__(self, inputs: int, width: int, two_biases: bool) -> None:
        super().__init__(inputs, width, 1, two_biases)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, inputs], state (h [B, width],) -> (states [B, T, width], last state)."""
        bias = self.bias_ih if self.bias_hh is None else self.bias_ih + self.bias_hh
        given = linear(x.transpose(0, 1), self.weight_ih, bias)
        # the recurrence keeps the weights' precision: what is rounded at every step drifts
        states = _ElmanScan.apply(given.to(self.weight_hh.dtype), self.weight_hh, state[0])
        return states.transpose(0, 1), (states[-1],)


class _ElmanScan(torch.autograd.Function):
    """The recurrence over time-major inputs [T, B, h].

    Its backward pass leaves the gradient of U to one product over all steps; torch's own graph makes one a step, and
    takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, first: Tensor) -> Tensor:
        with torch.autocast(given.device.type, enabled=False):
            states = given.new_empty(given.shape[0] + 1, *given.shape[1:])
            states[0] = first
            turned = weight.t()
            for t in range(given.shape[0]):
                torch.addmm(given[t], states[t], turned, out=states[t + 1])
                states[t + 1].tanh_()
            ctx.save_for_backward(weight, states)
            return states[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, states = ctx.saved_tensors
        before, slope = states[:-1], 1 - states[1:] * states[1:]
        grads = torch.empty_like(slope)
        later = torch.zeros_like(states[0])
        for t in range(len(grads) - 1, -1, -1):
            torch.mul(later.add_(gradient[t]), slope[t], out=grads[t])
            later = grads[t] @ weight
        return grads, grads.flatten(0, 1).t() @ before.flatten(0, 1), later


class Lstm(RecurrentLayer):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000):
    ``i, f, o = sigmoid``, ``g = tanh``, ``c = f c + i g``, ``h = o tanh(c)``; rows in the order i, f, g, o.

    Worked out by torch's fused kernel (oneDNN's on the CPU): half the time of the same steps one by one.
    """

    n_states = 2

    def __init__(self, inputs: int, width: int, two_biases: bool) -> None:
        super().__init__(inputs, width, 4, two_biases)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x [B, T, inputs], state (h, c), each [B, width] -> (states [B, T, width], last state)."""
        other = torch.zeros_like(self.bias_ih) if self.bias_hh is None else self.bias_hh
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, other]
        states, h, c = _lstm(x, tuple(part.unsqueeze(0) for part in state), weights, self.training)
        if isinstance(x, FakeTensor) and states.grad_fn is not None:
            # fake kernels have no workspace; a plan should see its memory, which lives as long as the graph
            size = round(_WORKSPACE * states.numel())
            states.grad_fn.metadata["workspace"] = torch.empty(size, dtype=torch.float32)
        return states, (h[0], c[0])


def _lstm(x: Tensor, first: State, weights: list[Tensor], training: bool) -> tuple[Tensor, Tensor, Tensor]:
    """``torch.lstm`` of one layer; in float32, and rounded after it, where oneDNN has no half-precision kernel."""
    kind = x.device.type
    autocast = torch.is_autocast_enabled(kind)
    wanted = torch.get_autocast_dtype(kind) if autocast else x.dtype
    if kind != "cpu" or _has_fused(wanted):
        first = tuple(part.to(x.dtype) for part in first)
        return torch.lstm(x, first, weights, True, 1, 0.0, training, False, True)
    x, *weights = (part.float() for part in (x, *weights))
    with torch.autocast(kind, enabled=False):
        found = torch.lstm(
            x, tuple(part.float() for part in first), weights, True, 1, 0.0, training, False, True
        )
    states, h, c = (part.to(wanted) for part in found)
    return states, h, c


@cache
def _has_fused(dtype: torch.dtype) -> bool:
    """Whether oneDNN has an LSTM of this dtype on this processor; under autocast torch does not ask, and fails."""
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype != torch.float16 or bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
