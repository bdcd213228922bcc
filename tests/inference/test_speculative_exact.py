"""Guessing ahead never changes what answers are likely, nor a seeded answer: against enumeration of all answers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.inference.request import Request, Sampling
from arriero.inference.sampler import Distribution, distribution, uniform
from arriero.inference.sequence import Sequence
from arriero.inference.shaping import Shaper
from arriero.inference.speculative.proposal import Proposal
from arriero.inference.speculative.verify import keep_or_redraw, residual
from arriero.tokenization.tokenizer import Tokenizer

PROMPT = [2, 0, 1]
SIZE, LENGTH = 4, 3
NO_END = frozenset[int]()


@cache
def row(ids: tuple[int, ...], seed: int) -> np.ndarray:
    return (np.random.default_rng([seed, *ids]).standard_normal(SIZE) * 1.5).astype(np.float32)


class Never0After0:
    """A grammar: 0 never follows 0."""

    finished = False
    error = None

    def __init__(self) -> None:
        self.last = -1

    def mask(self, logits: np.ndarray) -> None:
        if self.last == 0:
            logits[0] = -np.inf

    def accept(self, token: int) -> None:
        assert (self.last, token) != (0, 0)
        self.last = token

    def fits(self, tokens: list[int]) -> int:
        return len(tokens)

    def forced(self) -> list[int]:
        return []


def exact(sampling: Sampling, grammar: bool) -> dict[tuple[int, ...], float]:
    """The probability of every answer, step by step."""
    result = {}
    for answer in itertools.product(range(SIZE), repeat=LENGTH):
        shaper, chance, constraint = (
            Shaper(sampling, PROMPT, NO_END),
            1.0,
            Never0After0() if grammar else None,
        )
        for place, token in enumerate(answer):
            logits = shaper.shape(row((*PROMPT, *answer[:place]), 0), constraint)
            chance *= distribution(logits, sampling).probability(token)
            if not chance:
                break
            shaper.took(token)
            if constraint is not None:
                constraint.accept(token)
        result[answer] = chance
    assert sum(result.values()) == pytest.approx(1)
    return result


def guess_by(kind: str, sequence: Sequence) -> Proposal:
    """A guess of the rest of the answer: a constant, a greedy draft's, or a sampling draft's."""
    tokens: list[int] = []
    drawn: list[Distribution] = []
    for _ in range(sequence.room):
        logits = row((*sequence.ids, *tokens), 7) + row((*sequence.ids, *tokens), 0)
        if kind == "drawn":
            drawn.append(distribution(logits, Sampling(temperature=0.8, top_k=3)))
            tokens.append(drawn[-1].draw(uniform(sequence.seed, len(sequence.ids) + len(tokens), 0, 3)))
        else:
            tokens.append(int(logits.argmax()) if kind == "greedy" else 2)
    return Proposal(tokens, drawn_from=drawn)


def say(
    tokenizer: Tokenizer, sampling: Sampling, kind: str, grammar: bool
) -> tuple[tuple[int, ...], int, int]:
    """An answer; tokens guessed, tokens right."""
    sequence = Sequence(1, Request(PROMPT, sampling), tokenizer, NO_END, LENGTH)
    sequence.constraint = Never0After0() if grammar else None
    guessed = right = 0
    while sequence.generated < LENGTH:
        if kind != "none":
            sequence.proposal = guess_by(kind, sequence)
        tokens, ids = sequence.proposal.tokens, tuple(sequence.ids)
        rows = [row((*ids, *tokens[:i]), 0) for i in range(len(tokens) + 1)]
        taken = [e.token_id for e in sequence.verify(rows)]
        guessed += len(tokens)
        right += sum(a == b for a, b in zip(taken, tokens, strict=False))
    return tuple(sequence.ids[len(PROMPT) :]), guessed, right


SETTINGS: dict[str, dict[str, object]] = {
    "plain": {},
    "temperature and penalties": {
        "temperature": 0.7,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.4,
        "frequency_penalty": 0.5,
    },
    "filters": {"top_k": 3, "top_p": 0.9, "min_p": 0.02},
    "bias": {"logit_bias": {1: 1.5, 2: -1.0}},
}


def limit(freedom: int) -> float:
    """A chi-square value that is passed once in a million (Wilson and Hilferty, 1931; z = 4.75)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3


def check_frequencies(answers: list[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> None:
    found, count = Counter(answers), len(answers)
    assert all(expected[a] > 0 for a in found)
    common = [a for a, p in expected.items() if p * count >= 5]
    rare = sum(p for a, p in expected.items() if 0 < p * count < 5)
    cells = [(found[a], expected[a] * count) for a in common]
    if rare * count >= 5:
        cells.append((count - sum(found[a] for a in common), rare * count))
    statistic = sum((o - e) ** 2 / e for o, e in cells)
    assert statistic < limit(len(cells) - 1), statistic


CASES = [("plain", False), ("temperature and penalties", True), ("filters", False), ("bias", True)]


@pytest.mark.parametrize("kind", ["none", "constant", "greedy", "drawn"])
@pytest.mark.parametrize(("name", "grammar"), CASES)
def test_sampled_answers_follow_the_exact_distribution(
    tokenizer: Tokenizer, kind: str, name: str, grammar: bool
) -> None:
    expected = exact(Sampling.model_validate(SETTINGS[name]), grammar)
    told = [
        say(tokenizer, Sampling.model_validate({**SETTINGS[name], "seed": seed}), kind, grammar)
        for seed in range(500)
    ]
    check_frequencies([answer for answer, *_ in told], expected)
    if kind != "none":
        right = sum(r for *_, r in told) / sum(g for _, g, _ in told)
        assert 0.005 < right < 0.98


@pytest.mark.parametrize(("name", "grammar"), CASES)
def test_guesses_that_are_no_draws_leave_seeded_answers_as_they_are(
    tokenizer: Tokenizer, name: str, grammar: bool
) -> None:
    for seed in range(40):
        sampling = Sampling.model_validate({**SETTINGS[name], "seed": seed})
        plain = say(tokenizer, sampling, "none", grammar)[0]
        assert (
            plain
            == say(tokenizer, sampling, "greedy", grammar)[0]
            == say(tokenizer, sampling, "constant", grammar)[0]
        )


def random_distribution(rng: np.random.Generator, size: int) -> Distribution:
    weights = rng.random(size) ** 4 + 1e-6
    kept = np.flatnonzero(rng.random(size) < 0.6)
    return (
        Distribution.of(weights)
        if len(kept) == 0 or rng.random() < 0.3
        else Distribution.of(weights[kept], kept)
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_kept_and_redrawn_together_are_the_target(size: int, seed: int) -> None:
    """q(x) min(1, p(x)/q(x)) + P(not kept) residual(x) = p(x), for every token."""
    rng = np.random.default_rng(seed)
    target, drawn_from = random_distribution(rng, size), random_distribution(rng, size)
    p, q = target.dense(size), drawn_from.dense(size)
    kept = np.minimum(p, q)
    redrawn = (1 - kept.sum()) * residual(target, drawn_from).dense(size)
    assert kept + redrawn == pytest.approx(p, abs=1e-9)


def test_a_guess_from_the_target_itself_is_always_kept() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        target = random_distribution(rng, 9)
        guess = target.draw(rng.random())
        assert keep_or_redraw(target, guess, target, seed, 5, 0) == guess


@pytest.mark.parametrize("scheme", ["greedy", "drawn"])
def test_how_often_guesses_are_right(scheme: str) -> None:
    """A drawn guess is kept with probability 1 - TV(p, q), one that is no draw with p(guess)."""
    sampling = Sampling(seed=0)
    got, ids = 0, tuple(PROMPT)
    p = distribution(row(ids, 0), sampling)
    q = distribution(row(ids, 7) + row(ids, 0), Sampling(temperature=0.8, top_k=3))
    best = int((row(ids, 7) + row(ids, 0)).argmax())
    expected = (
        float(np.minimum(p.dense(SIZE), q.dense(SIZE)).sum()) if scheme == "drawn" else p.probability(best)
    )
    count = 4000
    for seed in range(count):
        if scheme == "drawn":
            guess = q.draw(uniform(seed, 3, 0, 3))
            got += keep_or_redraw(p, guess, q, seed, 3, 0) == guess
        else:
            got += p.draw(uniform(seed, 3)) == best
    assert got / count == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / count))
