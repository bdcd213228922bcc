"""Over-training for inference (Sardana et al. 2023, arXiv 2401.00448): the cheapest model over its whole life.

A model that will answer many tokens is better made smaller and trained on more: of all (N, D) with the same loss, take
the one whose training and inference together cost least,

    min over N of  6 N D(N)  +  w 2 N T,      D(N): the tokens that bring N parameters to the loss,

with T the tokens that will be read and written, and w what a FLOP of inference costs in FLOP of training: decoding
uses a few per cent of a device's arithmetic, training 30 to 50.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from arriero.cost.scaling.law import INFERENCE_FLOPS, Allocation, ParametricLaw
from arriero.errors import ArrieroError

_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 200


@dataclass(frozen=True)
class Life:
    """A model's training and use, in FLOP of training.

    Attributes:
        training: 6 N D. inference: w 2 N T.
    """

    model: Allocation
    training: float
    inference: float

    @property
    def total(self) -> float:
        """Of its whole life."""
        return self.training + self.inference


@dataclass(frozen=True)
class Overtraining:
    """The best model beside the reference of equal loss.

    Attributes:
        reference: the model whose loss is matched. best: the cheapest of that loss.
    """

    reference: Life
    best: Life

    @property
    def ratio(self) -> float:
        """Cost of the best over cost of the reference."""
        return self.best.total / self.reference.total

    @property
    def factor(self) -> float:
        """Tokens a parameter of the best over those of the reference."""
        return self.best.model.tokens_per_parameter / self.reference.model.tokens_per_parameter


def inference_weight(training_utilisation: float, inference_utilisation: float) -> float:
    """What a FLOP of inference costs in FLOP of training, where both run on devices of the same price.

    Raises:
        ArrieroError: a utilisation is not above 0 and at most 1.
    """
    for name, value in (("training", training_utilisation), ("inference", inference_utilisation)):
        if not 0 < value <= 1:
            raise ArrieroError(f"the {name} utilisation should be above 0 and at most 1, not {value:g}")
    return training_utilisation / inference_utilisation


def life(model: Allocation, inference_tokens: float, weight: float = 1.0) -> Life:
    """What a model takes to train and to use."""
    return Life(model, model.flops, weight * INFERENCE_FLOPS * model.parameters * inference_tokens)


def overtrain(
    law: ParametricLaw, reference: Allocation, inference_tokens: float, weight: float = 1.0
) -> Overtraining:
    """The cheapest model with the reference's loss, over training and ``inference_tokens``.

    Args:
        reference: of this law, e.g. ``law.optimal(flops)`` or ``law.allocation(N, law.optimal_tokens(N))``.
        weight: cost of a FLOP of inference over that of a FLOP of training.

    Raises:
        ArrieroError: a negative number of tokens or weight, or a reference whose loss the law does not know.
    """
    if not (math.isfinite(inference_tokens) and inference_tokens >= 0):
        raise ArrieroError(f"inference tokens are 0 or more, not {inference_tokens:g}")
    if not (math.isfinite(weight) and weight > 0):
        raise ArrieroError(f"the weight of inference is above 0, not {weight:g}")
    if reference.loss is None:
        raise ArrieroError("the reference model has no loss to match")
    goal = reference.loss
    low = math.log(law.smallest(goal))

    def cost(log_size: float) -> float:
        size = math.exp(log_size)
        flops = law.allocation(size, law.tokens_for(size, goal)).flops
        return flops + weight * INFERENCE_FLOPS * size * inference_tokens

    # Both terms are convex in log N, so there is one valley; inference only ever asks for less than the optimal size.
    size = math.exp(_valley(cost, low, math.log(law.reach(goal).parameters)))
    best = law.allocation(size, law.tokens_for(size, goal))
    return Overtraining(life(reference, inference_tokens, weight), life(best, inference_tokens, weight))


def _valley(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest (golden section, Kiefer 1953)."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(_STEPS):
        if at_left <= at_right and math.isfinite(at_left):
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = cost(right)
    return (low + high) / 2
