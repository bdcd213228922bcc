"""The parametric law of Hoffmann et al. 2022 (arXiv 2203.15556, "Chinchilla"): loss from parameters and tokens.

    L(N, D) = E + A / N^alpha + B / D^beta

N counts all parameters, D the training tokens, L is nats a token, and training takes C = 6 N D FLOP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arriero.errors import ArrieroError

TRAINING_FLOPS = 6.0
"""Of one parameter and token: 2 forward, 4 backward. Attention's scores are left out, as the papers do."""
INFERENCE_FLOPS = 2.0
"""Of one parameter and token, forward alone."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Allocation:
    """A model and the tokens it is trained on.

    Attributes:
        flops: of its training, 6 N D. loss: what the law expects, nats a token; None where a law gives none.
    """

    parameters: float
    tokens: float
    flops: float
    loss: float | None

    @property
    def tokens_per_parameter(self) -> float:
        """D / N."""
        return self.tokens / self.parameters


@dataclass(frozen=True)
class ParametricLaw:
    """One fit of the law. The names are the paper's.

    Attributes:
        E: loss that no size and no data take away: the entropy of the text. A, alpha: the price of a finite model.
        B, beta: the price of finite data.
        name: what a reader calls it. source: where it is from.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    name: str = "own fit"
    source: str = ""

    def __post_init__(self) -> None:
        for key in ("A", "B", "alpha", "beta"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise ArrieroError(f"a scaling law needs {key} > 0, not {value}")
        if not (math.isfinite(self.E) and self.E >= 0):
            raise ArrieroError(f"a scaling law needs E >= 0, not {self.E}")

    def loss(self, parameters: ArrayLike, tokens: ArrayLike) -> Floats:
        """Nats a token of models of ``parameters`` trained on ``tokens`` (shapes that broadcast)."""
        n, d = np.asarray(parameters, dtype=float), np.asarray(tokens, dtype=float)
        return np.asarray(self.E + self.A * n**-self.alpha + self.B * d**-self.beta)

    @property
    def balance(self) -> float:
        """G = (alpha A / (beta B))^(1 / (alpha + beta)) of the closed forms (eq. 4 of the paper)."""
        return float(((self.alpha * self.A) / (self.beta * self.B)) ** (1 / (self.alpha + self.beta)))

    @property
    def size_exponent(self) -> float:
        """a in N ~ C^a; tokens grow with the power 1 - a."""
        return self.beta / (self.alpha + self.beta)

    def allocation(self, parameters: float, tokens: float) -> Allocation:
        """That model with its FLOP and its loss."""
        flops = TRAINING_FLOPS * parameters * tokens
        return Allocation(parameters, tokens, flops, float(self.loss(parameters, tokens)))

    def optimal(self, flops: float) -> Allocation:
        """The lowest loss of a compute budget: N = G (C/6)^(beta/(alpha+beta)), D = (C/6) / N.

        Raises:
            ArrieroError: the budget is not a positive number.
        """
        if not (math.isfinite(flops) and flops > 0):
            raise ArrieroError(f"a compute budget is a positive number of FLOP, not {flops}")
        pairs = flops / TRAINING_FLOPS
        parameters = self.balance * pairs**self.size_exponent
        return self.allocation(parameters, pairs / parameters)

    def optimal_tokens(self, parameters: float) -> float:
        """The tokens for which a model of this size is the best use of its compute."""
        return float((parameters / self.balance) ** (self.alpha / self.beta) / self.balance)

    def smallest(self, loss: float) -> float:
        """Parameters below which no amount of data reaches ``loss``.

        Raises:
            ArrieroError: the law never gets that low.
        """
        if not loss > self.E:
            raise ArrieroError(
                f"no model reaches a loss of {loss:.4g} under {self.name}: its floor is E = {self.E:.4g}"
            )
        return float((self.A / (loss - self.E)) ** (1 / self.alpha))

    def tokens_for(self, parameters: float, loss: float) -> float:
        """Tokens that bring a model of this size to ``loss``; infinite where it is too small for that."""
        left = loss - self.E - self.A * parameters**-self.alpha
        return float((self.B / left) ** (1 / self.beta)) if left > 0 else math.inf

    def reach(self, loss: float) -> Allocation:
        """The cheapest way to ``loss``: the optimal allocation whose loss it is.

        Along optimal allocations both terms are in a fixed ratio: A N^-alpha = (beta / alpha) B D^-beta.

        Raises:
            ArrieroError: the law never gets that low.
        """
        self.smallest(loss)
        share = (loss - self.E) * self.beta / (self.alpha + self.beta)
        parameters = (self.A / share) ** (1 / self.alpha)
        return self.allocation(parameters, self.tokens_for(parameters, loss))


CHINCHILLA = ParametricLaw(
    1.8172, 482.01, 2085.43, 0.3478, 0.3658, "chinchilla",
    "Besiroglu et al. 2024 (arXiv 2404.10102): the paper's data fitted again, without its optimiser's early stop",
)  # fmt: skip
CHINCHILLA_PRINTED = ParametricLaw(
    1.69, 406.4, 410.7, 0.34, 0.28, "chinchilla-printed",
    "Hoffmann et al. 2022 (arXiv 2203.15556), approach 3 as printed: it disagrees with the paper's approaches 1 and 2",
)  # fmt: skip
LAWS = {law.name: law for law in (CHINCHILLA, CHINCHILLA_PRINTED)}
"""Published fits by name; the corrected one is the one to use, the printed one is there to compare."""
