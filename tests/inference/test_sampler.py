from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from arriero.inference.request import Sampling
from arriero.inference.sampler import best, choose, draw, log_probabilities, penalise, probabilities, uniform

logits_of = arrays(np.float64, st.integers(1, 12), elements=st.floats(-8, 8, width=16))


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def limit(freedom: int) -> float:
    """A chi-square value that is passed once in a million (Wilson and Hilferty, 1931; z = 4.75)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.1, -2.0])
    count = 20_000
    sampling = Sampling(temperature=temperature)
    tokens = [choose(logits, sampling, 11, position, set(), {}) for position in range(count)]
    weights = np.exp(logits / temperature)
    expected = count * weights / weights.sum()
    assert chi_square(np.bincount(tokens, minlength=6), expected) < limit(5)


def test_draws_of_neighbouring_seeds_and_positions_are_independent() -> None:
    for pairs in ([(s, 5) for s in range(20_000)], [(5, p) for p in range(20_000)]):
        values = np.array([uniform(*pair) for pair in pairs])
        cells = np.histogram2d(values[:-1:2], values[1::2], bins=5, range=[[0, 1], [0, 1]])[0].ravel()
        assert chi_square(cells, np.full(25, 400.0)) < limit(24)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    assert uniform(3, 9) == uniform(3, 9)
    assert len({uniform(s, p) for s in range(20) for p in range(20)}) == 400
    assert uniform(-1, 0) == uniform(2**64 - 1, 0)
    assert all(0 <= uniform(s, 0) < 1 for s in range(100))


def test_a_draw_never_lands_on_an_impossible_token() -> None:
    distribution = np.array([0.0, 0.4, 0.0, 0.6, 0.0])
    assert {draw(distribution, seed, 0) for seed in range(200)} == {1, 3}


def brute_force(logits: np.ndarray, s: Sampling) -> np.ndarray:
    """The same rules, written token by token."""
    weights = [math.exp(x / s.temperature - max(logits) / s.temperature) for x in logits]
    kept = [i for i, w in enumerate(weights) if w >= s.min_p]
    kept.sort(key=lambda i: (-weights[i], i))
    if s.top_k:
        kept = kept[: s.top_k]
    total, running, chosen = sum(weights[i] for i in kept), 0.0, []
    for i in kept:
        if s.top_p < 1 and running >= s.top_p * total:
            break
        chosen.append(i)
        running += weights[i]
    result = np.zeros(len(weights))
    for i in chosen:
        result[i] = weights[i] / sum(weights[j] for j in chosen)
    return result


@settings(max_examples=300)
@given(
    logits_of,
    st.sampled_from([0.3, 1.0, 2.5]),
    st.integers(0, 6),
    st.sampled_from([0.1, 0.37, 0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 0.05, 0.33, 1.0]),
)
def test_filters_against_brute_force(logits: np.ndarray, t: float, k: int, p: float, m: float) -> None:
    sampling = Sampling(temperature=t, top_k=k, top_p=p, min_p=m)
    got, expected = probabilities(logits, sampling), brute_force(logits, sampling)
    if not np.allclose(got, expected, atol=1e-9):  # equal up to which of equal sums crosses p first
        borders = np.cumsum(np.sort(np.exp(logits / t - logits.max() / t))[::-1])
        assert np.isclose(borders[:, None], p * borders[None, :], rtol=1e-12).any()
    assert got.sum() == pytest.approx(1)


def test_greedy_takes_the_best_and_the_first_of_equals() -> None:
    assert choose(np.array([1.0, 3.0, 3.0]), Sampling(temperature=0), 0, 0, set(), {}) == 1


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert probabilities(np.array([700.0, 701.0, -700.0]), Sampling(temperature=1e-9)).tolist() == [0, 1, 0]


def test_penalties() -> None:
    logits = np.array([2.0, -2.0, 1.0, 0.5])
    sampling = Sampling(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    got = penalise(logits, sampling, {0, 1}, {1: 3, 2: 1})
    assert got.tolist() == [1.0, -4.0 - 0.5 - 0.75, 0.5 - 0.5 - 0.25, 0.5]
    assert logits.tolist() == [2.0, -2.0, 1.0, 0.5]
    assert penalise(logits, Sampling(), {0, 1}, {1: 3}) is logits


def test_presence_penalty_prevents_a_loop() -> None:
    logits = np.array([1.0, 0.9, 0.8])
    sampling = Sampling(temperature=0, presence_penalty=1)
    counts: dict[int, int] = {}
    chosen = []
    for position in range(3):
        token = choose(logits, sampling, 0, position, set(), counts)
        counts[token] = counts.get(token, 0) + 1
        chosen.append(token)
    assert chosen == [0, 1, 2]


@given(logits_of, st.integers(0, 15))
def test_best_against_sorting(logits: np.ndarray, count: int) -> None:
    logprobs = log_probabilities(logits)
    assert np.exp(logprobs).sum() == pytest.approx(1)
    expected = sorted(enumerate(logprobs), key=lambda pair: -pair[1])[:count]
    assert [t.logprob for t in best(logprobs, count)] == [value for _, value in expected]


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"stop": [""]}, {"max_tokens": 0}, {"topk": 3}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Sampling.model_validate(wrong)
