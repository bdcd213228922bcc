from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.mixture import Mixture, fit_weights, mix_logprobs
from arriero.models.ngram import NGram
from arriero.models.protocol import LanguageModel


def models() -> tuple[list[NGram], list[list[int]]]:
    rng = np.random.default_rng(0)
    documents = [rng.choice(8, 50, p=np.arange(1, 9) / 36) for _ in range(20)]
    return [NGram.fit(documents, order, 8) for order in (1, 3)], [d.tolist() for d in documents[:3]]


def test_a_mixture_is_a_language_model_whose_probabilities_are_weighted_sums() -> None:
    parts, texts = models()
    mixture = Mixture(parts, [0.3, 0.7])
    assert isinstance(mixture, LanguageModel)
    for text, values in zip(texts, mixture.token_logprobs(texts), strict=True):
        for t, value in enumerate(values, start=1):
            p = (
                0.3 * parts[0].distribution(text[:t])[text[t]]
                + 0.7 * parts[1].distribution(text[:t])[text[t]]
            )
            assert value == pytest.approx(np.log(p), abs=1e-12)
    counts = mixture.parameter_counts()
    assert sum(counts.values()) == 2 + sum(sum(part.parameter_counts().values()) for part in parts)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(1, 40), st.integers(0, 10_000))
def test_no_other_weights_are_better_than_the_fitted_ones(n_models: int, n_tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logprobs = list(np.log(rng.uniform(1e-6, 1, (n_models, n_tokens))))
    found = fit_weights(logprobs)
    assert sum(found.weights) == pytest.approx(1)
    assert found.logprob == pytest.approx(mix_logprobs(logprobs, found.weights).mean())
    for other in rng.dirichlet(np.ones(n_models), 30):
        assert mix_logprobs(logprobs, other.tolist()).mean() <= found.logprob + 1e-6
    for single in logprobs:
        assert single.mean() <= found.logprob + 1e-6


def test_probabilities_of_zero_and_very_small_ones() -> None:
    never, rare = np.full(3, -np.inf), np.full(3, -2000.0)
    assert mix_logprobs([never, rare], [0.5, 0.5]) == pytest.approx(rare + np.log(0.5))
    assert (mix_logprobs([never, never], [0.5, 0.5]) == -np.inf).all()
    assert fit_weights([never, rare]).weights == pytest.approx([0, 1], abs=1e-6)


def test_what_cannot_be_mixed_is_one_line() -> None:
    parts, _ = models()
    for weights in ([0.5], [0.5, 0.6], [-0.5, 1.5]):
        with pytest.raises(ArrieroError, match="weights"):
            Mixture(parts, weights)
    with pytest.raises(ArrieroError, match="same tokens"):
        fit_weights([np.zeros(3), np.zeros(4)])
    with pytest.raises(ArrieroError, match="same tokens"):
        fit_weights([np.zeros(0), np.zeros(0)])
    with pytest.raises(ArrieroError, match="logs of probabilities"):
        fit_weights([np.ones(3), np.zeros(3)])
