from __future__ import annotations

import math

import numpy as np
import pytest

from arriero.errors import ArrieroError
from arriero.models.ngram import NGram
from arriero.models.ngram_smoothing import SMOOTHING, get_smoothing, one_discount

DOCUMENTS = [[0, 1, 2], [0, 1, 1]]
"""Bigrams 01 twice, 12 and 11 once; predicted tokens: 1 three times, 2 once."""
V = 4


def p(smoothing: str, context: list[int], order: int = 2, weight: float | None = None) -> list[float]:
    return NGram.fit(DOCUMENTS, order, V, smoothing, weight).distribution(context).tolist()


def test_maximum_likelihood_is_the_ratio_of_counts_and_gives_nothing_to_the_unseen() -> None:
    assert p("mle", [1]) == [0, 0.5, 0.5, 0]
    assert p("mle", [], order=1) == [0, 0.75, 0.25, 0]
    model = NGram.fit(DOCUMENTS, 2, V, "mle")
    assert model.token_logprobs([[1, 3]])[0].tolist() == [-math.inf]


def test_additive_is_add_k_at_order_one() -> None:
    k = 0.5
    expected = [(c + k) / (4 + k * V) for c in (0, 3, 1, 0)]
    assert p("additive", [], order=1, weight=k) == pytest.approx(expected)
    # order 2: k V pseudo-counts spread as the order below says
    assert p("additive", [0], weight=k) == pytest.approx(
        [(c + k * V * low) / (2 + k * V) for c, low in zip((0, 2, 0, 0), expected, strict=True)]
    )


def test_jelinek_mercer_mixes_the_orders_with_one_weight() -> None:
    unigram = [0.3 * 0.25 + 0.7 * c / 4 for c in (0, 3, 1, 0)]
    assert p("jelinek_mercer", [], order=1, weight=0.3) == pytest.approx(unigram)
    expected = [0.3 * low + 0.7 * c / 2 for c, low in zip((0, 1, 1, 0), unigram, strict=True)]
    assert p("jelinek_mercer", [1], weight=0.3) == pytest.approx(expected)


def test_witten_bell_leaves_a_share_for_every_distinct_continuation() -> None:
    unigram = [(c + 2 * 0.25) / (4 + 2) for c in (0, 3, 1, 0)]
    assert p("witten_bell", [], order=1) == pytest.approx(unigram)
    expected = [(c + 1 * low) / (2 + 1) for c, low in zip((0, 2, 0, 0), unigram, strict=True)]
    assert p("witten_bell", [0]) == pytest.approx(expected)


def test_absolute_discounting_takes_the_same_from_every_count() -> None:
    # bigrams: n1 = 2, n2 = 1: D = 2 / 4; unigrams: n1 = 1, n2 = 0: D = 1/2
    unigram = [max(c - 0.5, 0) / 4 + 1 / 4 * 0.25 for c in (0, 3, 1, 0)]
    assert p("absolute", [], order=1) == pytest.approx(unigram)
    expected = [max(c - 0.5, 0) / 2 + 1 / 2 * low for c, low in zip((0, 1, 1, 0), unigram, strict=True)]
    assert p("absolute", [1]) == pytest.approx(expected)


def test_kneser_ney_counts_contexts_in_the_lower_order() -> None:
    # token 1 comes after 0 and 1, token 2 after 1 only: continuation counts 2 and 1; n1 = n2 = 1: D = 1/3
    unigram = [max(c - 1 / 3, 0) / 3 + 2 / 9 * 0.25 for c in (0, 2, 1, 0)]
    expected = [max(c - 0.5, 0) / 2 + 1 / 2 * low for c, low in zip((0, 1, 1, 0), unigram, strict=True)]
    assert p("kneser_ney", [1]) == pytest.approx(expected)
    assert one_discount([1, 1, 0, 0]) == (1 / 3,) * 3


def test_what_is_never_seen_shows_why_smoothing_is_needed() -> None:
    rng = np.random.default_rng(0)
    text = rng.choice(50, 2000, p=np.arange(1, 51) / 1275)
    scores = {
        name: NGram.fit([text[:1500]], 3, 50, name).token_logprobs([text[1500:].tolist()])[0].mean()
        for name in SMOOTHING
    }
    assert scores.pop("mle") == -math.inf
    assert all(math.isfinite(score) for score in scores.values())
    assert scores["modified_kneser_ney"] > scores["additive"]


def test_what_a_smoothing_cannot_take_is_one_line() -> None:
    with pytest.raises(ArrieroError, match="unknown smoothing 'kneser-ney'; did you mean 'kneser_ney'"):
        get_smoothing("kneser-ney", None)
    with pytest.raises(ArrieroError, match="'witten_bell' has no weight"):
        get_smoothing("witten_bell", 0.5)
    with pytest.raises(ArrieroError, match="below 1"):
        get_smoothing("jelinek_mercer", 1.0)
