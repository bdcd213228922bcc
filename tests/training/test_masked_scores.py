"""The counts that masked models are measured against, intervals, and what a model is said to tell."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from arriero.training.masked_scores import (
    TwoSidedCounts,
    masked_scores,
    pair_scores,
    ratio_interval,
    wilson_interval,
)
from arriero.training.settings import TrainSettings

from .test_masked_objective import made_up, model_of, objective

VOCAB = 60


def by_hand(tokens: list[int], left: int, right: int) -> int:
    """The same by counting in the plainest way."""
    both = Counter(
        m for a, m, b in zip(tokens, tokens[1:], tokens[2:], strict=False) if (a, b) == (left, right)
    )
    after = Counter(b for a, b in pairwise(tokens) if a == left)
    before = Counter(a for a, b in pairwise(tokens) if b == right)
    best = lambda counts: min(counts, key=lambda token: (-counts[token], token))  # noqa: E731
    if both:
        return int(best(both))
    shares = [max(counts.values()) / counts.total() if counts else -1 for counts in (after, before)]
    if max(shares) < 0:
        return int(best(Counter(tokens)))
    return int(best(after if shares[0] >= shares[1] else before))


def test_two_sided_counts_are_those_made_by_hand() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 9, 400) ** 2 % 11
    counts = TwoSidedCounts(tokens, 14)
    left, right = (a.ravel() for a in np.meshgrid(np.arange(14), np.arange(14)))
    found = counts.predict(left, right)
    wanted = [by_hand(tokens.tolist(), int(a), int(b)) for a, b in zip(left, right, strict=True)]
    assert found.tolist() == wanted


def test_ids_of_a_large_vocabulary_do_not_overflow() -> None:
    tokens = np.array([200_000, 199_999, 200_000, 199_998, 200_000, 199_999, 200_000])
    counts = TwoSidedCounts(tokens, 200_001)
    assert counts.predict(np.array([200_000]), np.array([200_000])).tolist() == [199_999]


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    found = wilson_interval(15, 20)
    assert (found["low"], found["high"]) == pytest.approx((0.531, 0.888), abs=1e-3)
    assert wilson_interval(0, 10)["low"] == pytest.approx(0, abs=1e-12) and wilson_interval(0, 0)["high"] == 1


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        of = rng.integers(5, 30, 60)
        right = rng.binomial(of, rng.beta(4, 6, 60))  # tokens of a row hang together
        found = ratio_interval(right.astype(float), of.astype(float))
        inside += found["low"] <= 0.4 <= found["high"]
    assert 0.90 <= inside / 400 <= 0.985


def test_scores_of_a_model_are_those_of_its_full_logits() -> None:
    model, goal, settings = model_of(), objective(), TrainSettings()
    text = made_up()

    class Text:
        n_tokens = len(text._ids)
        tokens = staticmethod(text.tokens)

    found = masked_scores(model, goal, Text(), settings, VOCAB)
    right = seen = frequent = 0
    most = int(np.bincount(text._ids).argmax())
    for number in range(len(goal)):
        batch, (row, _, places) = goal.batch([number]), goal.sample(number)
        best = model(batch.ids, attention_mask=batch.attention_mask)[0].argmax(-1).numpy()
        right += int((best[places] == row.ids[places]).sum())
        frequent += int((row.ids[places] == most).sum())
        seen += len(places)
    assert found["tokens"] == seen and found["rows"] == len(goal)
    assert found["model"]["accuracy"] == pytest.approx(right / seen)
    assert found["unigram"]["accuracy"] == pytest.approx(frequent / seen)
    assert found["over_trigram"]["accuracy"] == pytest.approx(
        found["model"]["accuracy"] - found["trigram"]["accuracy"]
    )


def test_pairs_are_counted_once() -> None:
    goal: Any = objective(paired=True)
    found = pair_scores(model_of("pretraining"), goal, TrainSettings())
    assert found["n"] == len(goal) and 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
