"""How far a fitted law can be trusted: bootstrap bands of its figures and of what it predicts.

With few runs (a ladder of a dozen) resampling them would leave some without enough sizes; there the losses are drawn anew
around the fit, with a scatter that is itself drawn from what n - 5 degrees of freedom leave open. For a linear law
the interval of a new run is then Student's, as it should be. With many runs the runs themselves are drawn
with replacement, as Besiroglu et al. 2024 do. Intervals are percentiles (Efron 1979).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from arriero.cost.scaling.fit import UNKNOWNS, Fit, Laws, refit
from arriero.cost.scaling.law import TRAINING_FLOPS, Allocation, Floats
from arriero.errors import ArrieroError

Method = Literal["auto", "losses", "runs"]
MANY = 40
"""Runs from which on they are drawn themselves."""
FURTHEST = 2.0
"""Decades beyond the largest run that a prediction goes without being asked to."""


@dataclass(frozen=True)
class Bands:
    """Laws drawn by a bootstrap, and the scatter of a further run [S] under each, in logarithms of the loss."""

    fit: Fit
    laws: Laws
    scatter: Floats
    method: Literal["losses", "runs"]

    def interval(self, values: Floats, confidence: float) -> tuple[float, float]:
        """The middle ``confidence`` share of the values [S]."""
        ends = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
        return float(ends[0]), float(ends[1])

    def parameters(self, confidence: float = 0.8) -> dict[str, tuple[float, float]]:
        """Intervals of E, A, B, alpha, beta and of the exponent a in N ~ C^a."""
        found = {name: self.interval(values, confidence) for name, values in self.laws.figures().items()}
        return found | {"size_exponent": self.interval(self._size_exponents(), confidence)}

    def _size_exponents(self) -> Floats:
        return np.asarray(self.laws.beta / (self.laws.alpha + self.laws.beta))


@dataclass(frozen=True)
class Prediction:
    """The loss of a model that was not trained yet.

    Attributes:
        low, high: interval of what a single such run will come to, its own noise included.
        law_low, law_high: interval of the law alone.
        decades: powers of ten of training FLOP beyond the largest fitted run (0 within).
        notes: what a reader must be told.
    """

    model: Allocation
    low: float
    high: float
    law_low: float
    law_high: float
    confidence: float
    decades: float
    notes: tuple[str, ...]


def bootstrap(fit: Fit, *, draws: int = 1000, seed: int = 0, method: Method = "auto") -> Bands:
    """Laws that the same ladder might have given.

    Args:
        method: "losses" draws losses around the fit, "runs" draws runs with replacement, "auto" chooses by their number.

    Raises:
        ArrieroError: too few draws, or a method that is none.
    """
    if draws < 20:
        raise ArrieroError(f"{draws} bootstrap draws give no interval: take 20 or more")
    if method not in ("auto", "losses", "runs"):
        raise ArrieroError(f"unknown bootstrap method '{method}': auto, losses or runs")
    chosen: Literal["losses", "runs"]
    chosen = ("runs" if len(fit.runs) >= MANY else "losses") if method == "auto" else method
    random = np.random.default_rng(seed)
    made = _drawn_runs(fit, draws, random) if chosen == "runs" else _drawn_losses(fit, draws, random)
    return Bands(fit, *made, chosen)


def _drawn_losses(fit: Fit, draws: int, random: np.random.Generator) -> tuple[Laws, Floats]:
    free = len(fit.runs) - UNKNOWNS
    spread = fit.scatter * np.sqrt(free / random.chisquare(free, draws))
    expected = fit.law.loss(fit.runs.parameters, fit.runs.tokens)
    noise = spread[:, None] * random.standard_normal((draws, len(fit.runs)))
    return refit(fit, losses=expected * np.exp(noise)), spread * random.standard_normal(draws)


def _drawn_runs(fit: Fit, draws: int, random: np.random.Generator) -> tuple[Laws, Floats]:
    n = len(fit.runs)
    weights = random.multinomial(n, np.full(n, 1 / n), draws).astype(float)
    wider = math.sqrt(n / (n - UNKNOWNS))
    return refit(fit, weights=weights), wider * random.choice(fit.residuals, draws)


def predict(
    bands: Bands, parameters: float, tokens: float, *, confidence: float = 0.8, far: bool = False
) -> Prediction:
    """The loss of a model of this size on so many tokens, with the interval of one run.

    Args:
        far: go more than two decades beyond the largest run all the same; the prediction then says so.

    Raises:
        ArrieroError: the model lies further out than that, or a figure makes no sense.
    """
    if not (parameters > 0 and tokens > 0):
        raise ArrieroError(f"a model has parameters and tokens above 0, not {parameters:g} and {tokens:g}")
    if not 0 < confidence < 1:
        raise ArrieroError(f"a confidence lies between 0 and 1, not {confidence:g}")
    model = bands.fit.law.allocation(parameters, tokens)
    beyond = decades_beyond(bands.fit, parameters, tokens)
    if beyond > FURTHEST and not far:
        raise ArrieroError(
            f"{parameters:.3g} parameters on {tokens:.3g} tokens lie {beyond:.1f} decades of FLOP beyond the largest "
            f"fitted run; a law is only followed {FURTHEST:g} unless you say so (far)"
        )
    losses = bands.laws.loss(parameters, tokens)
    law_low, law_high = bands.interval(losses, confidence)
    low, high = bands.interval(losses * np.exp(bands.scatter), confidence)
    value = float(model.loss or 0.0)
    return Prediction(
        model, min(low, value), max(high, value), min(law_low, value), max(law_high, value),
        confidence, beyond, _notes(bands.fit, parameters, tokens, beyond),
    )  # fmt: skip


def decades_beyond(fit: Fit, parameters: float, tokens: float) -> float:
    """Powers of ten of training FLOP between the largest fitted run and this one, at least 0."""
    flops = TRAINING_FLOPS * parameters * tokens
    return max(0.0, math.log10(flops / float(fit.runs.flops.max())))


def _notes(fit: Fit, parameters: float, tokens: float, beyond: float) -> tuple[str, ...]:
    notes = []
    if beyond > FURTHEST:
        notes.append(
            f"{beyond:.1f} decades of FLOP beyond the largest fitted run: the interval knows the noise of the runs, "
            "not whether the law still holds there"
        )
    ranges = (("parameters", parameters, fit.runs.parameters), ("tokens", tokens, fit.runs.tokens))
    for name, value, seen in ranges:
        ratio = value / float(seen.max()) if value > seen.max() else float(seen.min()) / value
        if ratio > 10 and beyond <= FURTHEST:
            side = "more" if value > seen.max() else "fewer"
            notes.append(f"{ratio:.0f} times {side} {name} than any fitted run has")
    return tuple(notes)
