from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.errors import ArrieroError
from arriero.models.ngram import NGram
from arriero.models.ngram_prune import with_normal_backoffs
from arriero.models.ngram_smoothing import SMOOTHING
from arriero.models.ngram_tables import Level, Tables

corpora = st.integers(2, 6).flatmap(
    lambda v: st.tuples(st.just(v), st.lists(st.lists(st.integers(0, v - 1), max_size=30), max_size=8))
)
contexts = st.lists(st.integers(0, 1), max_size=6)


@settings(max_examples=50, deadline=None)
@given(
    corpora,
    st.integers(1, 6),
    contexts,
    st.lists(st.integers(0, 3), max_size=5),
    st.sampled_from([*SMOOTHING]),
)
def test_probabilities_sum_to_one_after_cut_offs_with_any_smoothing(
    corpus: tuple[int, list[list[int]]], order: int, context: list[int], cuts: list[int], smoothing: str
) -> None:
    vocab_size, documents = corpus
    model = NGram.fit(documents, order, vocab_size, smoothing, prune=[0, *sorted(cuts)][:order])
    p = model.distribution(context)
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert (p >= 0).all() and (smoothing == "mle" or (p > 0).all())


@settings(max_examples=50, deadline=None)
@given(corpora, st.integers(2, 5), contexts, st.sampled_from([1e-6, 1e-3, 0.02, 0.3]))
def test_probabilities_sum_to_one_after_entropy_pruning(
    corpus: tuple[int, list[list[int]]], order: int, context: list[int], threshold: float
) -> None:
    vocab_size, documents = corpus
    model = NGram.fit(documents, order, vocab_size).pruned(threshold)
    p = model.distribution(context)
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    text = [*context, 1, 0, 1]
    for t, value in enumerate(model.token_logprobs([text])[0], start=1):
        assert value == pytest.approx(math.log(model.distribution(text[:t])[text[t]]), abs=1e-9)


def test_cut_offs_leave_out_what_occurs_too_rarely() -> None:
    documents = [[0, 1, 2, 3], [0, 1, 2, 2], [0, 1, 3, 3]]
    whole, pruned = NGram.fit(documents, 3, 4), NGram.fit(documents, 3, 4, prune=[0, 0, 1])
    # trigrams: 012 twice; 123, 122, 013, 133 once
    assert whole.parameter_counts() == {"1-gram": 3, "2-gram": 6, "3-gram": 5}
    assert pruned.parameter_counts() == {"1-gram": 3, "2-gram": 6, "3-gram": 1}
    # D of the fall-back: 1 for count 2. Context 01 holds 012 (2) and 013 (1, cut off and given to the order below whole):
    # P(2|01) = (2 - 1) / 3 + (1 + 1) / 3 P(2|1)
    lower = pruned.distribution([1])
    assert pruned.distribution([0, 1])[2] == pytest.approx(1 / 3 + 2 / 3 * lower[2])
    assert pruned.distribution([0, 1])[3] == pytest.approx(2 / 3 * lower[3])


@pytest.mark.parametrize("cuts", [[1], [0, 2, 1], [0, 0, 0, 0]])
def test_cut_offs_that_make_no_model_are_refused(cuts: list[int]) -> None:
    with pytest.raises(ArrieroError, match="prune"):
        NGram.fit([[0, 1]], 3, 2, prune=cuts)


def _perplexity_on_itself(before: Tables, after: Tables) -> float:
    """Relative growth of perplexity by the definition: over all bigram contexts and words of the vocabulary."""
    old, new = NGram(before), NGram(after)
    divergence = 0.0
    for context in range(before.vocab_size):
        p, q = old.distribution([context]), new.distribution([context])
        divergence += before.levels[0].p[context] * float((p * (np.log(p) - np.log(q))).sum())
    return math.expm1(divergence)


def test_an_ngram_is_pruned_exactly_when_its_removal_costs_less_than_the_threshold() -> None:
    """Bigrams removed one at a time by hand, the cost summed over the whole vocabulary instead of the closed form."""
    rng = np.random.default_rng(5)
    documents = [rng.choice(9, 15, p=np.arange(1, 10) / 45) for _ in range(3)]
    tables = NGram.fit(documents, 2, 10).tables
    level = tables.levels[1]
    costs = []
    for row in range(level.keys.size):
        keep = np.arange(level.keys.size) != row
        one_less = Level(level.keys[keep], level.p[keep], level.backoff)
        without = Tables(10, tables.seen, [tables.levels[0], one_less])
        costs.append(_perplexity_on_itself(tables, with_normal_backoffs(without)))
    assert min(costs) > -1e-12 and np.median(costs) > 1e-5
    for threshold in np.quantile(costs, [0.4, 0.6, 0.9]) * 1.001:
        kept = NGram(tables).pruned(threshold).tables.levels[1].keys
        assert kept.tolist() == level.keys[np.asarray(costs) >= threshold].tolist()


def test_a_context_is_kept_while_a_longer_ngram_needs_it() -> None:
    rng = np.random.default_rng(3)
    model = NGram.fit([rng.integers(0, 6, 200)], 4, 6).pruned(2e-4)
    tables = model.tables
    counts = model.parameter_counts()
    assert 0 < counts["4-gram"] < 170 and counts["3-gram"] > 0
    for n in range(2, 5):
        grams = tables.grams_of(n, 0, tables.levels[n - 1].keys.size)
        assert (tables.rows_of(grams[:, :-1]) >= 0).all() and (tables.rows_of(grams[:, 1:]) >= 0).all()
        assert (tables.rows_of(grams) == np.arange(len(grams))).all()


def test_document_starts_count_as_often_as_document_ends() -> None:
    documents = [[0, 2 + i % 3, 1] for i in range(300)]
    tables = NGram.fit(documents, 2, 5)
    plain, marked = tables.pruned(0.05), tables.pruned(0.05, bos_id=0, eos_id=1)
    of_start = [int((model.tables.levels[1].keys // 5 == 0).sum()) for model in (plain, marked)]
    assert of_start[0] <= of_start[1]
    assert marked.distribution([0])[0] < 0.01


def test_threshold_must_be_above_zero() -> None:
    with pytest.raises(ArrieroError, match="above 0"):
        NGram.fit([[0, 1]], 2, 2).pruned(0.0)
