from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from arriero.inference.request import Sampling
from arriero.inference.sampler import (
    SEGMENT,
    Distribution,
    best,
    distribution,
    log_normaliser,
    probabilities,
    uniform,
)
from arriero.inference.shaping import Shaper

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
    target = distribution(logits, sampling)
    tokens = [target.draw(uniform(11, position)) for position in range(count)]
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


def test_answers_and_purposes_have_streams_of_their_own() -> None:
    assert uniform(3, 9, 0, 0) == uniform(3, 9)
    assert len({uniform(3, 9, index, purpose) for index in range(9) for purpose in range(9)}) == 81
    assert uniform(3, 9, 1) != uniform(4, 9)
    values = np.array([[uniform(5, p, i) for p in range(4_000)] for i in range(2)])
    cells = np.histogram2d(values[0], values[1], bins=5, range=[[0, 1], [0, 1]])[0].ravel()
    assert chi_square(cells, np.full(25, 160.0)) < limit(24)


def test_a_draw_never_lands_on_an_impossible_token() -> None:
    target = Distribution.of(np.array([0.0, 0.4, 0.0, 0.6, 0.0]))
    assert {target.draw(uniform(seed, 0)) for seed in range(200)} == {1, 3}
    assert (target.draw(0.0), target.draw(1.0), target.draw(np.nextafter(1.0, 0))) == (1, 3, 3)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4 * SEGMENT), st.integers(0, 2**32), st.sampled_from([np.float32, np.float64]))
def test_a_draw_is_inversion_of_the_running_sum(size: int, seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.random(size) ** 8 * (rng.random(size) < 0.6)).astype(kind)
    weights[rng.integers(size)] = 0.5
    sums = np.cumsum(weights.astype(np.float64)) / weights.sum(dtype=np.float64)
    target = Distribution.of(weights)
    for u in (0.0, *rng.random(20), 1 - 2**-53):
        token = target.draw(u)
        assert weights[token] > 0
        assert sums[token] >= u - 1e-9
        assert token == 0 or sums[token - 1] <= u + 1e-9


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


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(0, 2**32),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([0, 1, 40, 2999]),
    st.sampled_from([0.2, 0.9, 0.9999, 1.0]),
    st.sampled_from([0.0, 0.01]),
)
def test_filters_of_long_rows_keep_what_a_full_sort_keeps(
    size: int, seed: int, spread: float, k: int, p: float, m: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(size) * spread).astype(np.float32)
    logits[rng.random(size) < 0.2] = logits[0]  # ties
    got = distribution(logits, Sampling(top_k=k, top_p=p, min_p=m))
    kept = np.arange(size) if got.ids is None else got.ids
    weights = np.exp(logits - logits.max())
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] >= m][: k or size]
    sums = np.cumsum(weights[order], dtype=np.float64)
    fewest = 1 + np.searchsorted(sums, p * sums[-1]) if p < 1 else len(order)
    assert abs(len(kept) - fewest) <= 1  # the sums round differently
    assert kept.tolist() == sorted(order[: len(kept)].tolist())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**32), st.integers(0, 40))
def test_a_row_gives_the_same_bits_wherever_it_lies(size: int, seed: int, place: int) -> None:
    rng = np.random.default_rng(seed)
    block = rng.standard_normal((3, size + 50)).astype(np.float32)
    row = block[1, place : place + size].copy()
    sampling = Sampling(temperature=0.7, top_p=0.9)
    for view in (row, block[1, place : place + size]):
        got = distribution(view, sampling)
        assert (got.total, got.weights.tolist()) == (
            distribution(row, sampling).total,
            distribution(row, sampling).weights.tolist(),
        )
        assert log_normaliser(view) == log_normaliser(row)


def test_probability_of_a_token() -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.1, -2.0])
    for sampling in (Sampling(), Sampling(top_k=3)):
        got = distribution(logits, sampling)
        assert [got.probability(i) for i in range(6)] == probabilities(logits, sampling).tolist()


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert probabilities(np.array([700.0, 701.0, -700.0]), Sampling(temperature=1e-9)).tolist() == [0, 1, 0]


def shaped(logits: list[float], sampling: Sampling, prompt: list[int], answer: list[int]) -> list[float]:
    shaper = Shaper(sampling, prompt, frozenset({0}))
    for token in answer:
        shaper.took(token)
    row = np.array(logits)
    result = shaper.shape(row).tolist()
    assert row.tolist() == logits
    return result


def test_penalties() -> None:
    sampling = Sampling(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    got = shaped([2.0, -2.0, 1.0, 0.5], sampling, [0, 1, 1], [1, 2, 1, 1])
    assert got == [1.0, -4.0 - 0.5 - 0.75, 0.5 - 0.5 - 0.25, 0.5]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=12),
    st.lists(st.integers(0, 7), max_size=12),
    st.sampled_from([1.0, 0.5, 1.7]),
    st.sampled_from([0.0, -1.0, 0.8]),
    st.sampled_from([0.0, -0.3, 0.9]),
)
def test_penalties_against_counting(
    prompt: list[int], answer: list[int], repetition: float, presence: float, frequency: float
) -> None:
    logits = np.random.default_rng(len(prompt)).standard_normal(8).tolist()
    sampling = Sampling(
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias={3: 1.5, 6: -100},
    )
    expected = []
    for token, value in enumerate(logits):
        if token in prompt + answer:
            value = value / repetition if value > 0 else value * repetition
        if token in answer:
            value -= presence + frequency * answer.count(token)
        expected.append(value + {3: 1.5, 6: -100}.get(token, 0))
    assert shaped(logits, sampling, prompt, answer) == pytest.approx(expected)


def test_nothing_asked_for_copies_nothing() -> None:
    row = np.zeros(4)
    assert Shaper(Sampling(), [1, 2], frozenset({0})).shape(row) is row


def test_no_end_before_min_tokens() -> None:
    sampling = Sampling(min_tokens=2)
    assert shaped([5.0, 1.0], sampling, [], [1]) == [-math.inf, 1.0]
    assert shaped([5.0, 1.0], sampling, [], [1, 1]) == [5.0, 1.0]


class OnlyEnd:
    """A grammar that is complete."""

    finished = True

    def mask(self, logits: np.ndarray) -> None:
        logits[1:] = -np.inf

    def accept(self, token: int) -> None: ...


def test_a_grammar_that_lets_only_the_end_come_overrules_min_tokens() -> None:
    shaper = Shaper(Sampling(min_tokens=2), [], frozenset({0}))
    assert shaper.shape(np.array([5.0, 1.0]), OnlyEnd()).tolist() == [5.0, -math.inf]


@settings(deadline=None)
@given(logits_of, st.integers(0, 15))
def test_best_against_sorting(logits: np.ndarray, count: int) -> None:
    normaliser = log_normaliser(logits)
    assert np.exp(logits - normaliser).sum() == pytest.approx(1)
    expected = sorted(enumerate(logits - normaliser), key=lambda pair: -pair[1])[:count]
    got = best(logits, count, normaliser)
    assert [(t.token_id, t.logprob) for t in got] == [(i, pytest.approx(value)) for i, value in expected]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"stop": [""]},
        {"max_tokens": 0},
        {"topk": 3},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: 101}},
        {"logit_bias": {1: math.nan}},
        {"min_tokens": 5, "max_tokens": 4},
        {"stop_token_ids": [-1]},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Sampling.model_validate(wrong)
