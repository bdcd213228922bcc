"""Linear interpolation of language models: ``P(w|h) = sum of weight_i P_i(w|h)``, and the weights fitted by EM.

Jelinek and Mercer (1980), "Interpolated estimation of Markov source parameters from sparse data": an n-gram and a
neural model err differently, so that the mixture is often better than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.errors import ArrieroError
from arriero.models.protocol import LanguageModel

Floats = NDArray[np.float64]
_SUM_ERROR = 1e-6


def mix_logprobs(logprobs: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Natural log of the weighted sum of probabilities, from M arrays of natural logs of one shape.

    Raises:
        ArrieroError: the weights are not shares that sum to 1, or their number is another.
    """
    shares = np.asarray(weights, np.float64)
    if shares.shape != (len(logprobs),) or not shares.size:
        raise ArrieroError(f"{shares.size} weights for {len(logprobs)} models")
    if not (shares >= 0).all() or abs(shares.sum() - 1) > _SUM_ERROR:
        raise ArrieroError(f"weights {shares.tolist()} should be shares from 0 to 1 with the sum 1")
    table = np.stack([np.asarray(values, np.float64) for values in logprobs])
    with np.errstate(divide="ignore"):
        table = table + np.log(shares).reshape(-1, *[1] * (table.ndim - 1))
    top = np.maximum(table.max(axis=0), -1e308)  # where all are -inf, their difference would be no number
    with np.errstate(divide="ignore"):
        mixed: Floats = top + np.log(np.exp(table - top).sum(axis=0))
    return mixed


class Mixture:
    """Several models over one vocabulary as one. Implements ``models.protocol.LanguageModel``."""

    def __init__(self, models: Sequence[LanguageModel], weights: Sequence[float]) -> None:
        """
        Raises:
            ArrieroError: the weights are not shares that sum to 1, one for each model.
        """
        mix_logprobs([np.zeros(0)] * len(models), weights)
        self.models, self.weights = list(models), [float(weight) for weight in weights]

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """Natural-log p(x_t | x_<t) for t >= 1 of every sequence: float64 [len(ids) - 1] each."""
        scored = [model.token_logprobs(sequences) for model in self.models]
        return [mix_logprobs(values, self.weights) for values in zip(*scored, strict=True)]

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by model and part, and the weights."""
        counts = {
            f"{number}.{part}": count
            for number, model in enumerate(self.models, start=1)
            for part, count in model.parameter_counts().items()
        }
        return {**counts, "weights": len(self.weights)}


@dataclass(frozen=True)
class FittedWeights:
    """``weights`` of the models; ``logprob``: mean natural-log probability of a token under their mixture."""

    weights: list[float]
    logprob: float
    steps: int


def fit_weights(
    logprobs: Sequence[Floats], tolerance: float = 1e-10, max_steps: int = 10_000
) -> FittedWeights:
    """The weights that give a held-out text the highest probability, by expectation and maximisation.

    The text must be one that no model was trained on. The likelihood is concave in the weights, so EM from equal
    weights finds its maximum. Tokens to which all models give the probability 0 are left out of the fitting.

    Args:
        logprobs: for each model the natural-log probabilities of the same tokens [N].
        tolerance: EM ends when a step raises the mean log-probability by less.

    Raises:
        ArrieroError: nothing to fit on, or arrays of different lengths.
    """
    lengths = {len(values) for values in logprobs}
    if len(lengths) != 1 or 0 in lengths:
        raise ArrieroError(
            f"weights are fitted on the same tokens under every model, not on {sorted(lengths)}"
        )
    table = np.stack([np.asarray(values, np.float64) for values in logprobs])
    if np.isnan(table).any() or (table > _SUM_ERROR).any():
        raise ArrieroError(
            "weights are fitted on natural logs of probabilities; some are above 0 or no numbers"
        )
    top = table.max(axis=0)
    usable = np.isfinite(top)
    likelihood = np.exp(table[:, usable] - top[usable])
    weights = np.full(len(table), 1 / len(table))
    before, steps = -np.inf, 0
    while usable.any() and steps < max_steps:
        mixed = weights @ likelihood
        now = float(np.log(mixed).mean())
        if now - before < tolerance:
            break
        # each model's mean share in the probability of a token
        weights = weights * (likelihood / mixed).mean(axis=1)
        weights /= weights.sum()
        before, steps = now, steps + 1
    return FittedWeights(weights.tolist(), float(mix_logprobs(list(table), weights.tolist()).mean()), steps)
